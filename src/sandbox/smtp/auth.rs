//! The dialogue of AUTH (RFC 4954): what a client says who it is, in the mechanisms PLAIN and LOGIN. Guarantee: judges
//! nothing, so a password is compared in one place only.

use std::io;

use base64::{Engine, prelude::BASE64_STANDARD};

use super::wire::{COMMAND_LIMIT, Line, Stream, Wire};

/// User and password.
type Login = (String, String);

/// What the client gives after `AUTH `; the error is the reply to a client that gives nothing of use.
pub(super) async fn credentials<S: Stream>(wire: &mut Wire<S>, rest: &str) -> io::Result<Result<Login, &'static str>> {
    let (mechanism, initial) = rest.split_once(' ').unwrap_or((rest, ""));
    let given = match mechanism.to_ascii_uppercase().as_str() {
        "PLAIN" => plain(wire, initial).await?,
        "LOGIN" => login(wire, initial).await?,
        _ => return Ok(Err("504 5.5.4 PLAIN or LOGIN")),
    };
    Ok(given.ok_or("501 5.5.2 Not understood"))
}

/// User and password of AUTH PLAIN (RFC 4616), in one response.
async fn plain<S: Stream>(wire: &mut Wire<S>, initial: &str) -> io::Result<Option<Login>> {
    let response = if initial.is_empty() { ask(wire, "334 ").await? } else { decode(initial) };
    Ok(response.and_then(|response| {
        let mut parts = response.splitn(3, '\0').skip(1).map(str::to_owned);
        parts.next().zip(parts.next())
    }))
}

/// User and password of AUTH LOGIN, in two.
async fn login<S: Stream>(wire: &mut Wire<S>, initial: &str) -> io::Result<Option<Login>> {
    let user = if initial.is_empty() { ask(wire, "334 VXNlcm5hbWU6").await? } else { decode(initial) };
    let Some(user) = user else { return Ok(None) };
    Ok(ask(wire, "334 UGFzc3dvcmQ6").await?.map(|password| (user, password)))
}

/// Asks for a base64 response; `None` if it is not one, as when the client gives up with `*`.
async fn ask<S: Stream>(wire: &mut Wire<S>, challenge: &str) -> io::Result<Option<String>> {
    wire.say(challenge).await?;
    match wire.line(COMMAND_LIMIT).await? {
        Line::Whole(line) => Ok(std::str::from_utf8(&line).ok().and_then(decode)),
        Line::Faulty(_) => Ok(None),
        Line::End => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn decode(text: &str) -> Option<String> {
    String::from_utf8(BASE64_STANDARD.decode(text).ok()?).ok()
}
