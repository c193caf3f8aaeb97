//! Every call of the contract. Whatever is asked, it is answered with a status that says something, and whoever is refused has
//! changed nothing.

use crate::{
    bytes::Bytes,
    contract::contract,
    limits::reached,
    plan,
    server::{framed, with},
};

/// Statuses that say that something is wrong with the server: unknown, deadline exceeded, internal, unavailable, data loss.
const OURS: [i32; 5] = [2, 4, 13, 14, 15];

pub(crate) fn take(input: &[u8]) {
    let mut input = Bytes(input);
    let methods = &contract().methods;
    let method = &methods[usize::from(input.byte()) % methods.len()];
    with(|server| {
        let token = match input.byte() {
            0..=199 => &server.tokens[0],
            200..=250 => &server.tokens[1],
            _ => &server.tokens[2],
        };
        let body = match input.byte() {
            // As it came, and inside a frame as it came.
            250..=255 => input.0.to_vec(),
            240..=249 => framed(input.0),
            _ => framed(&plan::message(&method.input, &mut input, &server.known)),
        };
        let (answer, trace) = server.leaves_a_trace(|| server.call(method, token, &body));
        assert!(!OURS.contains(&answer.code), "{} ended with {}: {}", method.path, answer.code, answer.said);
        if answer.code == 0 {
            reached();
        } else {
            assert!(!trace, "{} was refused with {} and changed something", method.path, answer.code);
        }
    });
}
