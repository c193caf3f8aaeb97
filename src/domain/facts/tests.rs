use std::collections::BTreeSet;

use super::*;

/// The order in which states may follow each other, apart from the one way back that the contract allows: a bounce
/// after a delivery report.
fn rank(channel: Channel, facts: Facts) -> u8 {
    if channel == Channel::Email && facts.any(Facts::BOUNCED) {
        return 10;
    }
    match shown(channel, facts) {
        DeliveryState::Pending => 0,
        DeliveryState::Cancelled => 1,
        DeliveryState::Skipped => 2,
        DeliveryState::Unconfirmed => 3,
        DeliveryState::Sent => 4,
        DeliveryState::Failed => 5,
        DeliveryState::Delivered => 6,
    }
}

#[test]
fn another_fact_never_moves_the_state_back() {
    for channel in Channel::ALL {
        for bits in 0..1 << 17 {
            let before = rank(channel, Facts(bits));
            for bit in 0..17 {
                let after = rank(channel, Facts(bits | 1 << bit));
                assert!(after >= before, "{channel:?} {bits:#b} + bit {bit}");
            }
        }
    }
}

/// Whether `fact` may be written beside `facts`. What the server decides wants a delivery that is not closed; what denies
/// that a message left wants that there was no doubt. A provider may say anything of a message once it was meant to leave.
fn may_be_written(channel: Channel, facts: Facts, fact: Facts) -> bool {
    let doubt = Facts::UNKNOWN_OPEN.and(Facts::UNKNOWN_CLOSED);
    let failed = Facts::REFUSED.and(Facts::EXPIRED).and(Facts::GAVE_UP);
    let ended = Facts::SKIPPED.and(Facts::CANCELLED).and(failed).and(Facts::UNKNOWN_CLOSED);
    let open = !facts.any(ended) && !facts.left_us();
    let meant_to_leave = facts.any(Facts::INTENT);
    match fact {
        // An account that takes nothing ends what was never tried, too.
        Facts::INTENT | Facts::GAVE_UP => open,
        Facts::SKIPPED | Facts::CANCELLED => open && !facts.any(doubt),
        Facts::REFUSED | Facts::EXPIRED | Facts::UNKNOWN_OPEN => open && meant_to_leave,
        Facts::UNKNOWN_CLOSED => open && facts.any(Facts::UNKNOWN_OPEN),
        Facts::BOUNCED | Facts::COMPLAINED => meant_to_leave && channel == Channel::Email,
        _ => meant_to_leave,
    }
}

/// Every move from one state to another that facts can make, written one after the other where they may be.
fn moves(channel: Channel) -> BTreeSet<(DeliveryState, DeliveryState)> {
    let mut moves = BTreeSet::new();
    let mut reached = vec![false; 1 << 17];
    let mut next = vec![Facts::NONE];
    while let Some(facts) = next.pop() {
        for bit in 0..17 {
            let more = facts.and(Facts(1 << bit));
            if more == facts || !may_be_written(channel, facts, Facts(1 << bit)) {
                continue;
            }
            let (before, after) = (shown(channel, facts), shown(channel, more));
            if before != after {
                moves.insert((before, after));
            }
            let known = &mut reached[usize::try_from(more.bits()).unwrap_or_default()];
            if !std::mem::replace(known, true) {
                next.push(more);
            }
        }
    }
    moves
}

#[test]
fn only_the_moves_of_the_contract_are_left_when_facts_are_written_where_they_may_be() {
    use DeliveryState::{Cancelled, Delivered, Failed, Pending, Sent, Skipped, Unconfirmed};
    for channel in Channel::ALL {
        let mut expected = BTreeSet::new();
        for (before, after) in [
            (Pending, vec![Unconfirmed, Sent, Delivered, Failed, Skipped, Cancelled]),
            (Unconfirmed, vec![Sent, Delivered, Failed]),
            (Sent, vec![Delivered, Failed]),
            // Proof that comes late.
            (Failed, vec![Delivered]),
            // A provider that contradicts its own definite no.
            (Skipped, vec![Sent, Delivered, Failed]),
            (Cancelled, vec![Sent, Delivered, Failed]),
            // Only mail comes back.
            (Delivered, if channel == Channel::Email { vec![Failed] } else { Vec::new() }),
        ] {
            expected.extend(after.into_iter().map(|after| (before, after)));
        }
        assert_eq!(moves(channel), expected, "{channel:?}");
    }
}

/// Every order of `facts`, by Heap's algorithm.
fn orders(facts: &mut [Facts], len: usize, visit: &mut impl FnMut(&[Facts])) {
    if len <= 1 {
        return visit(facts);
    }
    for n in 0..len {
        orders(facts, len - 1, visit);
        facts.swap(if len.is_multiple_of(2) { n } else { 0 }, len - 1);
    }
}

#[test]
fn every_order_of_what_becomes_known_ends_in_the_same_state() {
    let text = [
        Facts::UNKNOWN_OPEN,
        Facts::ACCEPTED,
        Facts::QUEUED,
        Facts::SENT_TO_CARRIER,
        Facts::UNDELIVERED,
        Facts::DELIVERED,
        Facts::READ,
        Facts::UNKNOWN_CLOSED,
    ];
    let mail = [
        Facts::UNKNOWN_OPEN,
        Facts::ACCEPTED,
        Facts::QUEUED,
        Facts::DEFERRED,
        Facts::DELIVERED,
        Facts::BOUNCED,
        Facts::UNDELIVERED,
        Facts::COMPLAINED,
    ];
    for (channel, mut facts, end) in
        [(Channel::Sms, text, DeliveryState::Delivered), (Channel::Email, mail, DeliveryState::Failed)]
    {
        let mut count = 0;
        orders(&mut facts, 8, &mut |order| {
            let (mut known, mut before) = (Facts::NONE, 0);
            for fact in order {
                known = known.and(*fact);
                let after = rank(channel, known);
                assert!(after >= before, "{channel:?} {order:?}");
                before = after;
            }
            assert_eq!(shown(channel, known), end, "{channel:?} {order:?}");
            count += 1;
        });
        assert_eq!(count, 40_320, "{channel:?}");
    }
}

#[test]
fn the_stronger_proof_wins() {
    let late = Facts::UNDELIVERED.and(Facts::DELIVERED);
    assert_eq!(shown(Channel::Sms, late), DeliveryState::Delivered);
    assert_eq!(shown(Channel::Email, late.and(Facts::BOUNCED)), DeliveryState::Failed);
    assert_eq!(shown(Channel::Sms, Facts::SKIPPED.and(Facts::ACCEPTED)), DeliveryState::Sent);
    assert_eq!(shown(Channel::Sms, Facts::INTENT), DeliveryState::Pending);
}
