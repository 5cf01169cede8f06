//! Any text as a message of the application's protocol: whatever is answered is JSON and not much longer than the message,
//! errors name their message, and a connection without a user can only authenticate.
#![no_main]

use carillon::protocol::json::RawJson;
use carillon::protocol::message_handler::{Command, Outcome, Verdicts, bill_number, decode, encode};
use libfuzzer_sys::fuzz_target;

/// The longest reply has a few fixed words, a text of 256 characters that are all escaped, and the time twice.
const WORDS: usize = 6 * 256 + 256;

fuzz_target!(init: every_command_is_reached(), |input: (bool, u8, &[u8])| {
    let (is_authenticated, room, bytes) = input;
    let text = String::from_utf8_lossy(bytes);
    let request = decode(&text, is_authenticated);
    assert!(request.latency(1.7e12).is_none_or(|latency| (0.0..60_000.0).contains(&latency)));
    if let Ok(command) = &request.command {
        assert!(is_authenticated || matches!(command, Command::Authenticate { .. }));
    }
    let outcome = match request.command.clone() {
        Err(error) => Outcome::Failed(error),
        Ok(command) => execute(command, usize::from(room)),
    };
    let is_failed = matches!(outcome, Outcome::Failed(_));
    for reply in request.ack().into_iter().chain(encode(&outcome, request.message_id, 1.7e12)) {
        let reply = std::str::from_utf8(&reply.json).expect("a reply is UTF-8");
        let message = RawJson::parse(reply).expect("a reply is JSON");
        assert!(message.member("type").is_some_and(|kind| kind.string().is_some()));
        if is_failed {
            assert_eq!(message.member("messageId"), request.message_id);
        }
        // `1e15,` grows to 16 digits, `"lastUpdated":0,` to a time.
        assert!(reply.len() <= 4 * text.len() + WORDS, "{} bytes for {}", reply.len(), text.len());
    }
    assert_eq!(decode(&text, is_authenticated), request);
});

fn execute(command: Command<'_>, room: usize) -> Outcome<'_> {
    match command {
        Command::Authenticate { .. } | Command::Nothing => Outcome::Silent,
        Command::Ping => Outcome::Pong,
        Command::LoadPreferences => Outcome::DefaultPreferences,
        Command::SavePreferences { preferences } => Outcome::PreferencesSaved { preferences },
        Command::Subscribe { given, .. } => Outcome::Subscribed { bill: given },
        Command::Unsubscribe { given, .. } => Outcome::Unsubscribed { bill: given },
        Command::BatchUnsubscribe { bills } => Outcome::BatchUnsubscribed { bills },
        Command::BatchSubscribe { bills } => {
            let elements = bills.elements().expect("an array").enumerate();
            let verdicts: Verdicts = elements.map(|(index, one)| index < room && bill_number(one).is_some()).collect();
            Outcome::BatchSubscribed { bills, verdicts }
        }
    }
}

/// Every command, every form of a bill, and what is no request.
fn every_command_is_reached() {
    type Matches = fn(&Command<'_>) -> bool;
    let commands: [(&str, Matches); 9] = [
        (r#"{"type":"ping"}"#, |command| matches!(command, Command::Ping)),
        (r#"{"type":"pong","timestamp":1}"#, |command| matches!(command, Command::Nothing)),
        (r#"{"type":"get_preferences"}"#, |command| matches!(command, Command::LoadPreferences)),
        (r#"{"type":"update_preferences","data":{"preferences":{}}}"#, |command| {
            matches!(command, Command::SavePreferences { .. })
        }),
        (r#"{"type":"subscribe","data":{"bill_id":"7"}}"#, |command| matches!(command, Command::Subscribe { .. })),
        (r#"{"type":"unsubscribe","data":{"bill_id":7}}"#, |command| {
            matches!(command, Command::Unsubscribe { bill: Some(_), .. })
        }),
        (r#"{"type":"batch_subscribe","data":{"bill_ids":[1,"2"]}}"#, |command| {
            matches!(command, Command::BatchSubscribe { .. })
        }),
        (r#"{"type":"batch_unsubscribe","data":{"bill_ids":[]}}"#, |command| {
            matches!(command, Command::BatchUnsubscribe { .. })
        }),
        (r#"{"type":"auth","data":{"token":"a.b.c"}}"#, |command| matches!(command, Command::Authenticate { .. })),
    ];
    for (text, is_expected) in commands {
        let command = decode(text, true).command;
        assert!(command.as_ref().is_ok_and(is_expected), "{text}: {command:?}");
        let is_for_all = matches!(command, Ok(Command::Authenticate { .. }));
        assert_eq!(decode(text, false).command.is_ok(), is_for_all, "without a user: {text}");
    }
    for text in ["", "[]", "{}", r#"{"type":"none"}"#, r#"{"type":"subscribe"}"#, r#"{"type":"auth","data":{}}"#] {
        assert!(decode(text, true).command.is_err(), "{text}");
    }
    let request = decode(r#"{"type":"none","messageId":"a","timestamp":1699999999000}"#, true);
    assert!(request.message_id.is_some() && request.latency(1.7e12) == Some(1000.0));
    let Ok(Command::BatchSubscribe { bills }) =
        decode(r#"{"type":"batch_subscribe","data":{"bill_ids":[1,"x",3]}}"#, true).command
    else {
        panic!("a batch")
    };
    let Outcome::BatchSubscribed { verdicts, .. } = execute(Command::BatchSubscribe { bills }, 2) else {
        panic!("a batch")
    };
    assert_eq!(verdicts.as_slice(), [true, false, false]);
}
