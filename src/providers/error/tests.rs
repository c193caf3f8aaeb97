use super::*;
use FailureReason::{
    Blocked, Internal, InvalidAddress, OptedOutAtProvider, Other, ProviderConfig, ProviderUnavailable, Unreachable,
};

/// What each code of Twilio means for the message and for the account, row by row.
#[test]
fn each_twilio_code_has_its_reason() {
    let table: [(FailureReason, &[u32]); 8] = [
        (OptedOutAtProvider, &[21610]),
        (InvalidAddress, &[21211, 21217, 21265, 21401, 21407, 21421, 21604, 21612, 21614, 21635, 30005, 30006, 63024]),
        (Unreachable, &[30003, 30008, 30017, 30410]),
        (ProviderUnavailable, &[30500, 30020, 30021, 20429, 21611, 30001, 30022, 30023, 30027, 14107]),
        (Blocked, &[30004, 30450, 30007, 30610, 30640]),
        (Internal, &[21617, 21602, 21619, 21620, 21623, 30019, 21654, 21656]),
        (
            ProviderConfig,
            &[
                20003, 20005, 20010, 30002, 21212, 21601, 21606, 21659, 21660, 21661, 21603, 21408, 21701, 21703,
                21704, 21705, 30032, 30033, 30034, 30035, 30024, 30028, 30029, 30030,
            ],
        ),
        (Other, &[0, 1, 20001, 21702, 30031, 99_999, u32::MAX]),
    ];
    for (reason, codes) in table {
        for code in codes {
            assert_eq!(twilio_reason(*code), reason, "{code}");
        }
    }
}

#[test]
fn an_answer_of_twilio_is_sorted_by_what_may_follow() {
    let refused = |reason, code: &str| SendError::Refused { reason, code: code.into() };
    for (status, code, expected) in [
        (400, Some(21211), refused(InvalidAddress, "21211")),
        (400, Some(21610), refused(OptedOutAtProvider, "21610")),
        (400, Some(21611), SendError::not_taken("21611")),
        (400, Some(12345), refused(Other, "12345")),
        (404, None, refused(Other, "http 404")),
        (401, Some(20003), SendError::misconfigured("20003")),
        (401, None, SendError::misconfigured("http 401")),
        (404, Some(20404), SendError::misconfigured("20404")),
        (429, Some(20429), SendError::not_taken("20429")),
        (429, None, SendError::not_taken("http 429")),
        (302, None, refused(ProviderConfig, "http 302")),
        (408, None, SendError::unknown("http 408")),
        (500, Some(20500), SendError::unknown("20500")),
        (503, Some(21610), SendError::unknown("21610")),
        (502, None, SendError::unknown("http 502")),
        (101, None, SendError::unknown("http 101")),
        (200, None, SendError::unknown("http 200")),
    ] {
        assert_eq!(SendError::from_twilio(status, code, None), expected, "{status} {code:?}");
    }
}

#[test]
fn a_reply_to_the_recipient_or_the_content_has_its_reason() {
    for (reply, enhanced, reason) in [
        (550, Some((1, 1)), InvalidAddress),
        (550, Some((1, 2)), InvalidAddress),
        (501, Some((1, 3)), InvalidAddress),
        (551, Some((1, 6)), InvalidAddress),
        (556, Some((1, 10)), InvalidAddress),
        (550, Some((2, 1)), InvalidAddress),
        (553, Some((1, 8)), ProviderConfig),
        (552, Some((3, 4)), Internal),
        (552, Some((7, 0)), Blocked),
        (550, Some((4, 4)), Unreachable),
        (550, Some((7, 0)), Blocked),
        (550, Some((7, 1)), Blocked),
        (550, Some((7, 25)), Blocked),
        (550, Some((7, 26)), Blocked),
        (550, Some((7, 515)), Blocked),
        (554, Some((6, 0)), Internal),
        (550, None, Unreachable),
        (503, None, Internal),
        (554, None, Other),
        (599, Some((9, 9)), Other),
    ] {
        for stage in [Stage::Recipient, Stage::Dot] {
            let error = SendError::from_smtp(stage, reply, enhanced, "");
            assert!(matches!(&error, SendError::Refused { .. }), "{reply} {enhanced:?}");
            assert_eq!(error.reason(), Some(reason), "{reply} {enhanced:?}");
        }
    }
    let code = |reply, enhanced| SendError::from_smtp(Stage::Recipient, reply, enhanced, "").code().to_owned();
    assert_eq!(code(550, Some((1, 1))), "550 5.1.1");
    assert_eq!(code(450, None), "450");
}

#[test]
fn only_what_speaks_of_the_address_suppresses_it() {
    let dead = [(1, 1), (1, 2), (1, 3), (1, 6), (1, 10), (2, 1)];
    for (subject, detail) in (0..=8).flat_map(|subject| (0..=600).map(move |detail| (subject, detail))) {
        let error = SendError::from_smtp(Stage::Recipient, 550, Some((subject, detail)), "550 no such user here");
        let suppresses = error.reason().is_some_and(FailureReason::suppresses_address);
        assert_eq!(suppresses, dead.contains(&(subject, detail)), "5.{subject}.{detail}");
        assert!(!error.reason().is_some_and(|reason| reason.doubts_address(error.code())), "5.{subject}.{detail}");
    }
}

#[test]
fn a_full_mailbox_is_tried_later_and_held_against_nobody() {
    for stage in [Stage::Recipient, Stage::Dot] {
        for (reply, enhanced, code) in [
            (552, Some((2, 2)), "552 5.2.2"),
            (552, None, "552"),
            (550, Some((2, 2)), "550 5.2.2"),
            (452, Some((2, 2)), "452 4.2.2"),
        ] {
            let error = SendError::from_smtp(stage, reply, enhanced, "");
            assert_eq!(error, SendError::Unreachable { code: code.into() });
            assert_eq!((error.reason(), error.reach()), (Some(Unreachable), Reach::Message));
        }
    }
}

#[test]
fn words_count_where_the_codes_leave_it_open_and_nowhere_else() {
    for said in ["550 User unknown", "No such user here", "<pat@example.test>: mailbox does not exist"] {
        let error = SendError::from_smtp(Stage::Recipient, 550, None, said);
        assert_eq!(error, SendError::Refused { reason: Unreachable, code: NO_SUCH_USER.into() }, "{said}");
        assert!(Unreachable.doubts_address(error.code()));
        for (stage, reply) in [(Stage::Session, 550), (Stage::Recipient, 554), (Stage::Recipient, 450)] {
            assert_ne!(SendError::from_smtp(stage, reply, None, said).code(), NO_SUCH_USER, "{said}");
        }
    }
    for said in ["", "Requested action not taken: mailbox unavailable", "refused by policy, see the user guide"] {
        let error = SendError::from_smtp(Stage::Recipient, 550, None, said);
        assert_eq!(error, SendError::Refused { reason: Unreachable, code: "550".into() }, "{said}");
        assert!(!Unreachable.doubts_address(error.code()));
    }
    for stage in [Stage::Session, Stage::Recipient, Stage::Dot] {
        let error = SendError::from_smtp(stage, 554, Some((7, 0)), "5.7.0 Must issue a STARTTLS command first");
        assert_eq!(error, SendError::misconfigured("554 5.7.0"));
    }
}

#[test]
fn a_reply_about_our_side_waits_for_an_operator() {
    for stage in [Stage::Session, Stage::Recipient, Stage::Dot] {
        for (reply, enhanced) in [
            (530, Some((7, 0))),
            (530, None),
            (534, Some((7, 9))),
            (535, None),
            (535, Some((7, 8))),
            (538, Some((7, 11))),
            (550, Some((7, 8))),
        ] {
            let error = SendError::from_smtp(stage, reply, enhanced, "");
            assert!(matches!(error, SendError::Misconfigured { .. }), "{reply} {enhanced:?}");
        }
    }
    assert_eq!(SendError::from_smtp(Stage::Session, 554, None, ""), SendError::misconfigured("554"));
}

#[test]
fn a_transient_reply_is_safe_to_repeat_at_every_stage() {
    for stage in [Stage::Session, Stage::Recipient, Stage::Dot] {
        for reply in [421, 450, 451, 452, 454] {
            assert!(matches!(SendError::from_smtp(stage, reply, None, ""), SendError::NotTaken { .. }), "{reply}");
        }
    }
    let wait = |reply, enhanced| match SendError::from_smtp(Stage::Recipient, reply, enhanced, "") {
        SendError::NotTaken { retry_after, .. } => retry_after,
        _ => None,
    };
    assert!((300..=900).contains(&GREYLIST.as_secs()), "servers that greylist wait for five minutes and more");
    assert_eq!(wait(450, None), Some(GREYLIST));
    assert_eq!(wait(451, Some((7, 1))), Some(GREYLIST));
    assert_eq!(wait(451, Some((3, 0))), None);
}

#[test]
fn only_what_would_meet_any_message_is_held_against_the_account() {
    let (ours, theirs) = (Reach::Account, Reach::Message);
    for (error, reach) in [
        (SendError::from_twilio(429, None, None), ours),
        (SendError::from_twilio(503, None, None), ours),
        (SendError::from_twilio(408, None, None), ours),
        (SendError::from_twilio(401, Some(20003), None), ours),
        (SendError::from_twilio(400, Some(21606), None), ours),
        (SendError::from_twilio(302, None, None), ours),
        (SendError::from_twilio(400, Some(21408), None), theirs),
        (SendError::from_twilio(400, Some(21610), None), theirs),
        (SendError::from_twilio(400, Some(21211), None), theirs),
        (SendError::from_smtp(Stage::Session, 450, None, ""), ours),
        (SendError::from_smtp(Stage::Session, 554, None, ""), ours),
        (SendError::from_smtp(Stage::Recipient, 421, Some((7, 0)), ""), ours),
        (SendError::from_smtp(Stage::Dot, 451, Some((3, 0)), ""), ours),
        (SendError::from_smtp(Stage::Recipient, 450, Some((7, 1)), ""), theirs),
        (SendError::from_smtp(Stage::Recipient, 451, None, ""), theirs),
        (SendError::from_smtp(Stage::Dot, 452, Some((2, 2)), ""), theirs),
        (SendError::from_smtp(Stage::Recipient, 550, Some((1, 1)), ""), theirs),
        (SendError::from_smtp(Stage::Recipient, 535, None, ""), ours),
        (SendError::lost(Stage::Recipient, "closed"), ours),
        (SendError::lost(Stage::Dot, "timeout"), ours),
        (SendError::internal("wrong account"), theirs),
    ] {
        assert_eq!(error.reach(), reach, "{error:?}");
    }
}

#[test]
fn silence_is_unknown_only_after_the_final_dot() {
    assert_eq!(SendError::lost(Stage::Session, "timeout"), SendError::not_taken("timeout"));
    assert_eq!(SendError::lost(Stage::Recipient, "closed"), SendError::not_taken("closed"));
    assert_eq!(SendError::lost(Stage::Dot, "closed"), SendError::unknown("closed"));
}
