//! The words of the English grammar.

/// Words that are read as others.
pub(super) const SAME: &[(&str, &str)] = &[
    // Contractions, and those whose apostrophe became a space.
    ("do not|don t|dnt", "dont"),
    ("did not|didn t", "didnt"),
    ("does not|doesn t", "doesnt"),
    ("will not|won t", "wont"),
    ("would not|wouldn t", "wouldnt"),
    ("can not|cannot|can t", "cant"),
    ("is not|isn t", "isnt"),
    ("im|i m", "i am"),
    ("i ve", "i have"),
    ("id", "i would"),
    ("youre", "you are"),
    ("youve", "you have"),
    // One thing in several words.
    ("any more", "anymore"),
    ("no mas", "no more"),
    ("opt out|opted out|opting out", "optout"),
    ("cell phone|mobile phone", "phone"),
    // Abbreviations.
    ("u|ya", "you"),
    ("ur", "your"),
    ("pls|plz", "please"),
    ("thx", "thanks"),
    ("wanna", "want to"),
    ("txt|tex|tect|yext", "text"),
    ("txts", "texts"),
    ("txting|textin|texing|textng|texitng|tecting|teting|texging|texring|textig", "texting"),
    ("msg", "message"),
    ("msgs|massages|mesages|messeges|messges|mesagges", "messages"),
    ("remiders|remainders|reminers", "reminders"),
    ("msging|mesaging|messageing|messging", "messaging"),
    // Misspellings of the keywords.
    ("stop1|stop2|sotp|stpo|stp|syop|dtop|stip|stoo|st0p", "stop"),
    (
        "un subscribe|unsub|unsubscribing|unsuscribe|unsubcribe|unsubsribe|unsubscibe|unsubscrib|unsubscrie|unsubscride|\
         unsubscrive|unsubscripe|unsubsctibe|unsubsrcibe|unsbscribe|unsubscrbe|unscubscribe|unsunscribe|unsubcsribe|\
         unsubacribe|unsubscrube|unsubscrine|unscribe|unsubribe|unsubscriber|ubsubscribe|insubscribe|onsubscribe|\
         unsubscript",
        "unsubscribe",
    ),
    ("unsuscribed|unsubcribed|unsubsribed|unsubscibed", "unsubscribed"),
];

/// Classes of words by name.
pub(super) const CLASSES: &[(&str, &str)] = &[
    ("halt", "stop stopp quit cease discontinue halt end refrain desist"),
    (
        "texting",
        "texting messaging contacting spamming bothering harassing pinging notifying disturbing bugging annoying pestering alerting hounding",
    ),
    ("text", "text message contact spam bother notify disturb sms harass"),
    ("texted", "texted messaged contacted notified bothered"),
    (
        "texts",
        "texts messages sms notifications alerts reminders spam message notification alert communications communication texting \
            messaging ads promos promotions advertisements",
    ),
    ("det", "the this these those that all any your my our more such of further other every so many to from anymore"),
    (
        "adj",
        "text sms auto automated automatic annoying constant daily appointment unwanted reminder phone marketing stupid dumb damn endless bot robo damned group mass future additional",
    ),
    (
        "list",
        "list lists database texts messages directory reminders alerts notifications service system contacts distribution thread chat group",
    ),
    ("remove", "remove delete take erase unlist drop removing deleting taking erasing"),
    ("removed", "removed deleted taken erased dropped"),
    (
        "kin",
        "mom moms mother mothers dad dads father fathers husband husbands wife wifes son sons daughter daughters parents",
    ),
    ("said", "said texted replied sent typed wrote answered responded"),
    ("noun", "texts messages alerts notifications reminders sms messaging"),
    ("me", "me us"),
    ("negfill", "ever please want mean intend need you guys to have let just like ask asking"),
    (
        "after",
        "please now immediately thanks thank you again anymore ever today asap at all for good already forever to me us this number my phone from here completely permanently right away effective 4",
    ),
    ("lead", "please and ok okay hi hey hello sorry but so thanks thank you i said now then just kindly"),
    ("kind", "contact mailing call calling phone text texting messaging message sms notification reminder"),
    ("revoke", "revoke withdraw rescind revoking withdrawing rescinding"),
    ("other", "him her them my your"),
    (
        "time",
        "noon midnight monday tuesday wednesday thursday friday saturday sunday tomorrow next dark work dinner lunch bedtime school eight nine ten",
    ),
    ("i", "i we ill well"),
    ("number", "0 1 2 3 4 5 6 7 8 9"),
];
