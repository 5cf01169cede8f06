//! Sections 12 and 13: compressed messages of many sizes, by kind of data and by what the client asks for.

use std::sync::Arc;

use crate::case::{Case, Plan};
use crate::dialogue::{Dialogue, Source};
use crate::payloads;
use crate::wire::Offer;

/// Characters of text or bytes of binary to a message, and how much of a compressed message is in one frame.
const SIZES: [(usize, usize); 18] = [
    (16, 0),
    (64, 0),
    (256, 0),
    (1024, 0),
    (4096, 0),
    (8192, 0),
    (16_384, 0),
    (32_768, 0),
    (65_536, 0),
    (131_072, 0),
    (8192, 256),
    (16_384, 256),
    (32_768, 256),
    (65_536, 256),
    (131_072, 256),
    (131_072, 1024),
    (131_072, 4096),
    (131_072, 32_768),
];

/// The three smallest and the smallest in fragments.
const QUICK: [usize; 4] = [1, 2, 3, 11];

const PLAIN_OFFER: &str = "permessage-deflate; client_no_context_takeover; client_max_window_bits";

/// What the client asks of the server, beside what it allows itself.
const REQUESTS: [&[&str]; 7] = [
    &[""],
    &["; server_no_context_takeover"],
    &["; server_max_window_bits=9"],
    &["; server_max_window_bits=15"],
    &["; server_no_context_takeover; server_max_window_bits=9"],
    &["; server_no_context_takeover; server_max_window_bits=15"],
    &["; server_no_context_takeover; server_max_window_bits=9", "; server_no_context_takeover", ""],
];

/// Data that messages are cut from.
#[derive(Clone)]
enum Material {
    Binary(Arc<Vec<u8>>),
    Text(Arc<Vec<char>>),
}

impl Material {
    fn text(text: &str) -> Self {
        Self::Text(Arc::new(text.chars().collect()))
    }

    /// One piece after the other, from the beginning again at the end.
    fn messages(&self, size: usize) -> Source {
        match self.clone() {
            Self::Binary(data) => Box::new(move |number| cyclic(&data, number * size, size).copied().collect()),
            Self::Text(data) => {
                Box::new(move |number| cyclic(&data, number * size, size).collect::<String>().into_bytes())
            }
        }
    }
}

fn cyclic<T>(data: &[T], start: usize, size: usize) -> impl Iterator<Item = &T> {
    data.iter().cycle().skip(start % data.len()).take(size)
}

pub fn cases() -> Vec<Case> {
    let json = Material::text(&payloads::json());
    let kinds = [
        json.clone(),
        Material::Binary(Arc::new(payloads::picture())),
        Material::Binary(Arc::new(payloads::prose())),
        Material::text(&payloads::html()),
        Material::Binary(Arc::new(payloads::document())),
    ];
    let by_kind =
        kinds.into_iter().zip(1..).flat_map(|(material, kind)| series(&format!("12.{kind}"), &material, &[""]));
    let by_offer =
        REQUESTS.iter().zip(1..).flat_map(|(requests, number)| series(&format!("13.{number}"), &json, requests));
    by_kind.chain(by_offer).collect()
}

fn series(section: &str, material: &Material, requests: &[&str]) -> Vec<Case> {
    let offer: Vec<_> = requests.iter().map(|request| format!("{PLAIN_OFFER}{request}")).collect();
    let offer = offer.join(", ");
    let numbered = SIZES.into_iter().zip(1..);
    let make = |((size, fragment), number): ((usize, usize), usize)| {
        let (material, offer) = (material.clone(), offer.clone());
        let dialogue = move || {
            Plan::Dialogue(Dialogue {
                is_text: matches!(material, Material::Text(_)),
                message: material.messages(size),
                fragment,
                offer: Offer(offer.clone()),
            })
        };
        Case::new(format!("{section}.{number}"), dialogue).slow(!QUICK.contains(&number))
    };
    numbered.map(make).collect()
}
