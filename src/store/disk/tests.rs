#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;

const MIB: u64 = 1 << 20;

fn disk(folder: &Path, bytes: u64) -> Disk {
    Disk::of(&folder.join("heedwell.db"), Reserve { bytes, percent: 0 })
}

#[test]
fn the_reserve_is_the_larger_of_both_and_the_ballast_a_part_of_it() {
    let usual = Reserve::default();
    assert_eq!((usual.of(1 << 30), usual.of(100 << 30)), (256 * MIB, 5 << 30));
    assert_eq!(usual.ballast(), 64 * MIB);
    let small = Reserve { bytes: 16 * MIB, percent: 0 };
    assert_eq!((small.of(100 << 30), small.ballast()), (16 * MIB, 4 * MIB));
}

#[test]
fn the_ballast_holds_its_space_until_it_is_let_go() {
    let folder = tempfile::tempdir().unwrap();
    let disk = disk(folder.path(), 8 * MIB);
    let held = || fs::metadata(folder.path().join("heedwell.db.ballast")).unwrap().blocks() * 512;
    disk.tend();
    assert_eq!(held(), 2 * MIB);
    disk.let_go();
    assert_eq!(held(), 0);
    disk.tend();
    assert_eq!(held(), 2 * MIB);
    // One of another size, or without anything in it, is not ours.
    OpenOptions::new().write(true).open(&disk.ballast).unwrap().set_len(0).unwrap();
    OpenOptions::new().write(true).open(&disk.ballast).unwrap().set_len(2 * MIB).unwrap();
    assert!(!disk.holds_ballast());
    disk.tend();
    assert!(disk.holds_ballast());
}

#[test]
fn without_room_there_is_no_ballast_and_nothing_new() {
    let folder = tempfile::tempdir().unwrap();
    // More than any disk has.
    let disk = disk(folder.path(), 1 << 60);
    disk.tend();
    assert!(!disk.has_room_for(0) && !disk.ballast.exists());
    disk.let_go();
    assert!(!disk.ballast.exists(), "what was never held is not made");
}

#[test]
fn a_disk_that_cannot_be_asked_is_not_called_full() {
    assert!(disk(Path::new("/no/such/folder"), MIB).has_room_for(MIB));
}
