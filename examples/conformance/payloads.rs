//! What the compressed messages consist of: five kinds of data, made up here and the same in every run.
//!
//! Pure. The suite sends a JSON file, a picture, a play, a web page and a PDF file; these compress about as well.

const LENGTH: usize = 256 * 1024;

const WORDS: [&str; 24] = [
    "der",
    "und",
    "Glöckner",
    "läutet",
    "über",
    "den",
    "Dächern",
    "Straße",
    "wenn",
    "es",
    "Mitternacht",
    "schlägt",
    "Turm",
    "ein",
    "Lied",
    "für",
    "alle",
    "die",
    "noch",
    "wach",
    "sind",
    "nicht",
    "größer",
    "als",
];

/// xorshift64: no randomness is wanted, only variety.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn word(&mut self) -> &'static str {
        WORDS.get(self.below(WORDS.len() as u64) as usize).copied().unwrap_or_default()
    }
}

fn text(seed: u64, mut append: impl FnMut(&mut Numbers, &mut String)) -> String {
    let mut numbers = Numbers(seed);
    let mut text = String::new();
    while text.len() < LENGTH {
        append(&mut numbers, &mut text);
    }
    text
}

pub fn json() -> String {
    text(0x9e37_79b9_7f4a_7c15, |numbers, text| {
        let (id, name, open) = (numbers.below(100_000), numbers.word(), numbers.below(2) == 0);
        text.push_str(&format!(
            "{{\"id\":{id},\"name\":\"{name} {}\",\"open\":{open},\"votes\":[{},{}]}},\n",
            numbers.word(),
            numbers.below(400),
            numbers.below(400)
        ));
    })
}

pub fn html() -> String {
    text(0xd1b5_4a32_d192_ed03, |numbers, text| {
        let (level, name, word) = (numbers.below(4) + 1, numbers.word(), numbers.word());
        text.push_str(&format!(
            "<h{level} class=\"{name}\">{word}</h{level}>\n<p>{} — “{}”</p>\n",
            numbers.word(),
            word
        ));
    })
}

/// Words in Latin-1, and so no UTF-8.
pub fn prose() -> Vec<u8> {
    let words = text(0x2545_f491_4f6c_dd1d, |numbers, text| {
        text.push_str(numbers.word());
        text.push(if numbers.below(9) == 0 { '\n' } else { ' ' });
    });
    words.chars().map(|character| u8::try_from(u32::from(character)).unwrap_or(b'?')).collect()
}

/// A grey picture: smooth, with noise in the lowest bits.
pub fn picture() -> Vec<u8> {
    let mut numbers = Numbers(0x94d0_49bb_1331_11eb);
    (0..LENGTH).map(|at| ((at % 512 / 4 + at / 512 / 8) as u8) ^ (numbers.below(4) as u8)).collect()
}

/// What no compression makes smaller, with some text in between.
pub fn document() -> Vec<u8> {
    let mut numbers = Numbers(0xbf58_476d_1ce4_e5b9);
    let mut bytes = Vec::with_capacity(LENGTH);
    while bytes.len() < LENGTH {
        bytes.extend_from_slice(b"obj << /Length 4096 /Filter /FlateDecode >> stream\n");
        bytes.extend((0..512).flat_map(|_| numbers.next().to_le_bytes()));
    }
    bytes
}
