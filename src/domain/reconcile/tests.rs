use super::*;

const START: DateTime<Utc> = DateTime::UNIX_EPOCH;

fn inquiry(channel: Channel, looks: i16) -> Inquiry {
    Inquiry { channel, looks, since: START, now: START, absences: 0, resent: false }
}

fn found() -> Look {
    Look::Found { provider_ref: "SM1".into(), status: "sent".into(), code: String::new(), failure: None }
}

fn at(seconds: u64) -> AfterLook {
    AfterLook::LookAt(START + Duration::from_secs(seconds))
}

/// Takes `looks` one after the other, each when it is due, until nothing more is asked.
fn course(channel: Channel, looks: &[Look]) -> (AfterLook, usize) {
    let mut inquiry = inquiry(channel, 0);
    for (n, look) in looks.iter().enumerate() {
        match inquiry.after(look, 0.0) {
            AfterLook::LookAt(now) => {
                inquiry = Inquiry { looks: inquiry.looks + 1, now, absences: inquiry.absences_after(look), ..inquiry };
            }
            after => return (after, n + 1),
        }
    }
    (AfterLook::LookAt(inquiry.now), looks.len())
}

#[test]
fn a_text_goes_through_every_row_of_the_table() {
    use Look::{Absent, Contested, NoList, Several, Unreadable};
    for (looks, end) in [
        // Proof.
        (vec![found()], AfterLook::Bind),
        (vec![Absent, found()], AfterLook::Bind),
        (vec![Unreadable, Unreadable, Unreadable, Unreadable, found()], AfterLook::Bind),
        // None on both looks.
        (vec![Absent], at(120)),
        (vec![Absent, Absent], AfterLook::SendAgain),
        (vec![Unreadable, Absent], at(600)),
        (vec![Unreadable, Absent, Absent], AfterLook::SendAgain),
        (vec![Absent, Unreadable, Absent], AfterLook::SendAgain),
        // Several candidates.
        (vec![Several], at(120)),
        (vec![Several, Several], AfterLook::Close),
        (vec![Absent, Several], AfterLook::Close),
        (vec![Several, Absent, Absent, Absent, Absent], AfterLook::Close),
        // One that another attempt of ours may have made.
        (vec![Contested], at(120)),
        (vec![Contested, Contested], AfterLook::Close),
        (vec![Contested, found()], AfterLook::Bind),
        (vec![Contested, Absent], at(600)),
        (vec![Contested, Absent, Absent], AfterLook::SendAgain),
        (vec![Absent, Contested], AfterLook::Close),
        // A list that cannot be read.
        (vec![Unreadable; 1], at(120)),
        (vec![Unreadable; 2], at(600)),
        (vec![Unreadable; 3], at(3_600)),
        (vec![Unreadable; 4], at(21_600)),
        (vec![Unreadable; 5], AfterLook::Close),
        // Only a text's own list is reason enough to send it again.
        (vec![NoList, NoList], AfterLook::Close),
    ] {
        assert_eq!(course(Channel::Sms, &looks), (end, looks.len()), "{looks:?}");
    }
}

#[test]
fn mail_and_push_are_sent_once_more_and_no_oftener() {
    for channel in [Channel::Email, Channel::Push] {
        assert_eq!(course(channel, &[Look::NoList]), (at(120), 1));
        assert_eq!(course(channel, &[Look::NoList, Look::NoList]), (AfterLook::ResendFlagged, 2));
        let resent = Inquiry { resent: true, ..inquiry(channel, 1) };
        assert_eq!(resent.after(&Look::NoList, 0.0), AfterLook::Close);
    }
}

#[test]
fn doubt_about_a_text_is_never_a_reason_to_send_it_again() {
    let looks = [Look::Absent, Look::Several, Look::Contested, Look::Unreadable, Look::NoList];
    // Every course of up to five looks, by the digits of a number to the base of five.
    for course_number in 0..5_usize.pow(5) {
        let looks: Vec<_> =
            (0..5).map(|n| looks.get(course_number / 5_usize.pow(n) % 5).cloned().unwrap_or(Look::NoList)).collect();
        let (end, taken) = course(Channel::Sms, &looks);
        let absences = looks.iter().take(taken).filter(|look| **look == Look::Absent).count();
        match end {
            AfterLook::SendAgain => assert_eq!(absences, 2, "{looks:?}"),
            AfterLook::Close => {}
            other => panic!("{looks:?} leads to {other:?}"),
        }
    }
}

#[test]
fn looks_are_never_early_and_late_by_a_fifth_at_most() {
    for (looks, wait) in [(0, 120), (1, 600), (2, 3_600), (3, 21_600)] {
        for random in [0.0, 0.25, 0.999] {
            let AfterLook::LookAt(at) = inquiry(Channel::Sms, looks).after(&Look::Unreadable, random) else {
                panic!("it is looked for again")
            };
            let (wait, late) = (TimeDelta::seconds(wait), at - START - TimeDelta::seconds(wait));
            assert!(late >= TimeDelta::zero() && late <= wait / 5, "{looks} {random}: {late}");
        }
    }
}

#[test]
fn nothing_is_looked_for_after_a_day() {
    for (hours, open) in [(23, true), (24, false), (90, false)] {
        for (channel, look) in
            [(Channel::Sms, Look::Absent), (Channel::Sms, Look::Unreadable), (Channel::Email, Look::NoList)]
        {
            let late = Inquiry { now: START + TimeDelta::hours(hours), ..inquiry(channel, 0) };
            assert_eq!(late.after(&look, 0.5) == AfterLook::Close, !open, "{hours} h, {look:?}");
        }
    }
}

#[test]
fn a_message_that_was_taken_is_asked_about_five_times() {
    let minutes = |minutes| START + TimeDelta::minutes(minutes);
    let mut asked = Vec::new();
    let mut now = START;
    while let Some(at) = next_poll(START, now) {
        asked.push((at - START).num_minutes());
        now = at;
    }
    assert_eq!(asked, [30, 60, 240, 1_440, 4_320]);
    // Whatever was missed is not made up for.
    assert_eq!(next_poll(START, minutes(70)), Some(minutes(240)));
    assert_eq!(next_poll(START, minutes(4_320)), None);
}
