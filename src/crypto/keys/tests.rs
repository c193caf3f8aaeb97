#![expect(clippy::unwrap_used, reason = "tests")]
use std::{
    error::Error as _,
    fs::{self, OpenOptions},
    io::Write,
};

use super::*;

const ONE: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
const TWO: &str = "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=";
const THREE: &str = "AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM=";

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn refused(text: &str) -> String {
    KeyFile::parse(text).unwrap_err().to_string()
}

#[test]
fn what_create_writes_load_reads() {
    let folder = folder();
    let path = folder.path().join("keys");
    let made = KeyFile::create(&path).unwrap();
    let read = KeyFile::load(&path).unwrap();
    assert_eq!(made.key_check(), read.key_check());
    assert_eq!(made.master_check(1), read.master_check(1));
    assert_eq!(read.current_master(), 1);
}

#[test]
fn two_created_files_share_no_key() {
    let folder = folder();
    let one = KeyFile::create(&folder.path().join("one")).unwrap();
    let two = KeyFile::create(&folder.path().join("two")).unwrap();
    assert_ne!(one.key_check(), two.key_check());
    assert_ne!(one.master_check(1), two.master_check(1));
    assert_ne!(Some(one.key_check()), one.master_check(1));
}

#[test]
fn create_does_not_make_folders() {
    let path = folder().path().join("absent/keys");
    assert!(matches!(KeyFile::create(&path), Err(KeyFileError::Io(..))));
}

#[test]
fn a_file_of_another_kind_is_not_read_to_its_end() {
    let folder = folder();
    let path = folder.path().join("keys");
    KeyFile::create(&path).unwrap();
    OpenOptions::new().append(true).open(&path).unwrap().set_len(MAX_FILE_LEN + 1).unwrap();
    assert!(matches!(KeyFile::load(&path), Err(KeyFileError::Io(..))));
}

#[test]
fn create_never_overwrites() {
    let folder = folder();
    let path = folder.path().join("keys");
    fs::write(&path, "mine").unwrap();
    assert!(matches!(KeyFile::create(&path), Err(KeyFileError::Exists(_))));
    assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
}

#[test]
fn a_missing_file_is_told_from_an_unreadable_one() {
    let folder = folder();
    assert!(matches!(KeyFile::load(&folder.path().join("keys")), Err(KeyFileError::Missing(_))));
    let binary = folder.path().join("binary");
    let mut options = OpenOptions::new();
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.write(true).create_new(true).open(&binary).unwrap().write_all(&[0xff, 0xfe]).unwrap();
    let error = KeyFile::load(&binary).unwrap_err();
    assert!(matches!(error, KeyFileError::Io(..)));
    assert!(error.source().is_some());
}

#[test]
fn a_file_open_to_others_is_refused_with_the_remedy() {
    use std::os::unix::fs::PermissionsExt;
    let folder = folder();
    let path = folder.path().join("keys");
    KeyFile::create(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    for bit in 0..9 {
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400 | 1 << bit)).unwrap();
        match KeyFile::load(&path) {
            Ok(_) => assert!(bit > 5, "bit {bit} passed"),
            Err(error) => {
                assert!(bit < 6, "bit {bit} refused");
                assert_eq!(
                    error.to_string(),
                    format!("the key file is open to others than its owner; run: chmod 600 {}", path.display())
                );
            }
        }
    }
}

#[test]
fn the_highest_number_wraps_and_the_others_unwrap_whatever_their_order() {
    let keys = KeyFile::parse(&format!("\n# old\nmaster.10 {THREE}\r\nindex\t{ONE}\n  master.9  {TWO}  \n")).unwrap();
    assert_eq!(keys.current_master(), 10);
    assert!(keys.unwrapping(9).is_some() && keys.unwrapping(10).is_some() && keys.unwrapping(1).is_none());
    assert!(keys.master_check(9) != keys.master_check(10));
    assert!(keys.master_check(1).is_none());
}

#[test]
fn each_fault_is_named_with_its_line_and_without_its_content() {
    let neither =
        |line| format!("line {line} of the key file is neither `master.<number> <base64>` nor `index <base64>`");
    let bad_key = |line| format!("the key in line {line} of the key file is not 32 bytes in base64");
    let repeated = |line| format!("line {line} of the key file names a key for the second time");
    for (text, expected) in [
        (String::new(), "the key file has no `master.<number>` line".to_owned()),
        (format!("index {ONE}"), "the key file has no `master.<number>` line".into()),
        (format!("master.1 {ONE}"), "the key file has no `index` line".into()),
        (format!("index {ONE}\nmaster {TWO}"), neither(2)),
        (format!("master.+1 {ONE}"), neither(1)),
        (format!("master.01 {ONE}"), neither(1)),
        (format!("master.4294967296 {ONE}"), neither(1)),
        (format!("master.-1 {ONE}"), neither(1)),
        (format!("# a comment\n\nINDEX {ONE}"), neither(3)),
        (ONE.to_owned(), neither(1)),
        ("index".to_owned(), neither(1)),
        ("index AQEB".to_owned(), bad_key(1)),
        (format!("index {ONE}{ONE}"), bad_key(1)),
        (format!("index {}", ONE.trim_end_matches('=')), bad_key(1)),
        (format!("index {ONE} {ONE}"), bad_key(1)),
        ("index not*base64".to_owned(), bad_key(1)),
        (format!("index {ONE}\nindex {TWO}"), repeated(2)),
        (format!("master.1 {ONE}\nindex {TWO}\nmaster.1 {ONE}"), repeated(3)),
    ] {
        assert_eq!(refused(&text), expected);
    }
}

#[test]
fn debug_shows_no_key() {
    let keys = KeyFile::parse(&format!("master.1 {ONE}\nindex {TWO}")).unwrap();
    assert_eq!(
        format!("{keys:?}"),
        "KeyFile { index: [hidden], newest: Master { number: 1, key: [hidden] }, older: [] }"
    );
}

#[test]
fn derived_keys_stay_the_same_from_release_to_release() {
    // Computed apart from this code, by HKDF and HMAC of another library. A change here orphans every database.
    let keys = KeyFile::parse(&format!("master.1 {TWO}\nindex {ONE}")).unwrap();
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!(hex(&keys.key_check()), "fd6c6593826a3f97be4f970f12bd73f29bf55937802dca1ada3366770eaa95b8");
    assert_eq!(hex(&keys.master_check(1).unwrap()), "d669be072eb6497df29f9241acd8985aee546a579e0b6f7943206426c51774d6");
    assert_eq!(hex(&keys.blind_index("p").index("phone", "+12025550142")), "96d4e5104b343ed226643f919e38671a");
    assert_eq!(
        hex(&keys.fingerprints().fingerprint(b"request")),
        "797874f93356440a37e374d26a9148563c61fe15b4a6635d548571206562023e"
    );
    assert_eq!(
        hex(&keys.chain("consent", "p").link(&[0; 32], b"entry")),
        "0168351504911b584d9f23770924561dfaf08736afa5046285fa99c4cf476b49"
    );
}
