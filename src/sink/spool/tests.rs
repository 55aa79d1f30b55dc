//! What was appended comes out, once, in order, whole or not at all; after crashes, cuts and wrong bytes, too.

use super::*;
use proptest::prelude::*;
use std::os::unix::fs::PermissionsExt;

const S: u64 = 1_000_000_000;
/// Far from every age.
const NOW: Wall = Wall(1_000_000 * S);

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Place {
        Place(tempfile::tempdir().expect("directory"))
    }

    fn options(&self, max_bytes: u64, max_age: Duration) -> Options {
        Options { directory: self.0.path().join("spool"), max_bytes, max_age }
    }

    fn open(&self) -> Spool {
        Spool::open(&self.options(64 << 20, Duration::from_secs(3600)), NOW).expect("spool")
    }

    fn files(&self) -> Vec<String> {
        let names = std::fs::read_dir(self.0.path().join("spool")).expect("directory");
        let mut names: Vec<_> =
            names.map(|file| file.expect("file").file_name().to_str().expect("name").to_string()).collect();
        names.sort();
        names
    }

    fn segment(&self, number: u64) -> PathBuf {
        self.0.path().join(format!("spool/{number:016}.segment"))
    }
}

/// Record `n`: two lines, times n and n + 1 seconds before now.
fn body(n: u64) -> Vec<u8> {
    format!("m f={n} {n}\n").repeat(2 + n as usize % 5).into_bytes()
}

fn append(spool: &mut Spool, n: u64) -> Entry {
    spool.append(&body(n), 2, (NOW.0 - n - 1, NOW.0 - n), NOW).expect("appended")
}

/// All that waits, taken out in order.
fn drain(spool: &mut Spool) -> Vec<Vec<u8>> {
    let mut bodies = Vec::new();
    while let Some((entry, body)) = spool.front(NOW).expect("readable") {
        bodies.push(body);
        assert_eq!(spool.settle(&entry, entry.lines()), entry.lines());
        spool.finish(&entry);
    }
    bodies
}

fn bodies(numbers: impl IntoIterator<Item = u64>) -> Vec<Vec<u8>> {
    numbers.into_iter().map(body).collect()
}

#[test]
fn records_come_out_in_order_and_leave_nothing_behind() {
    let place = Place::new();
    let mut spool = place.open();
    assert_eq!((spool.oldest(), spool.lines(), spool.bytes(), spool.segments()), (None, 0, 0, 0));
    for n in 0..5 {
        append(&mut spool, n);
    }
    assert_eq!((spool.oldest(), spool.lines(), spool.segments()), (Some(NOW.0 - 5), 10, 1));
    assert!(spool.bytes() > 5 * record::RECORD_HEADER as u64);
    assert_eq!(drain(&mut spool), bodies(0..5));
    assert_eq!((spool.oldest(), spool.lines(), spool.bytes(), spool.segments()), (None, 0, 0, 0));
    assert_eq!(place.files(), ["lock"]);
    append(&mut spool, 7);
    assert_eq!(drain(&mut spool), bodies([7]));
    assert_eq!(spool.figures(), Figures::default());
}

#[test]
fn the_directory_is_for_its_owner_only() {
    let place = Place::new();
    let mut spool = place.open();
    append(&mut spool, 0);
    let mode = |path: &Path| std::fs::metadata(path).expect("file").permissions().mode() & 0o777;
    assert_eq!(mode(spool.directory()), 0o700);
    assert_eq!(mode(&place.segment(1)), 0o600);
}

#[test]
fn a_restart_goes_on_where_it_stopped_also_out_of_order() {
    let place = Place::new();
    let mut spool = place.open();
    let entries: Vec<_> = (0..6).map(|n| append(&mut spool, n)).collect();
    for n in [0, 1, 4] {
        assert_eq!(spool.settle(&entries[n], 2), 2);
        spool.finish(&entries[n]);
        assert!(!spool.waits(&entries[n]));
        assert_eq!(spool.settle(&entries[n], 2), 0, "settled once");
    }
    drop(spool);
    let mut spool = place.open();
    assert_eq!(spool.figures(), Figures { found: 6, ..Figures::default() });
    // a file of an earlier run is not appended to
    append(&mut spool, 9);
    assert_eq!(place.files(), ["0000000000000001.segment", "0000000000000002.segment", "lock"]);
    assert_eq!(drain(&mut spool), bodies([2, 3, 5, 9]));
    assert_eq!(place.files(), ["lock"]);
}

#[test]
fn a_full_spool_drops_its_oldest_segment() {
    let place = Place::new();
    let options = place.options(1 << 20, Duration::from_secs(3600));
    let mut spool = Spool::open(&options, NOW).expect("spool");
    let large = vec![b'x'; 100_000];
    for n in 0..30 {
        let times = (NOW.0 - 100 + n, NOW.0 - 99 + n);
        spool.append(&large, 1, times, NOW).expect("appended");
        assert!(spool.bytes() <= options.max_bytes);
        assert_eq!(spool.lines() + spool.figures().dropped, n + 1);
    }
    assert_eq!((spool.lines(), spool.figures().dropped), (10, 20), "{spool:?}");
    assert_eq!(spool.oldest(), Some(NOW.0 - 80));
    let error = spool.append(&vec![0; 1 << 20], 1, (1, 1), NOW).expect_err("too large");
    assert_eq!((error.kind(), spool.lines()), (io::ErrorKind::FileTooLarge, 10));

    drop(spool);
    let small = Options { max_bytes: (1 << 20) - 1, ..options };
    assert!(matches!(Spool::open(&small, NOW), Err(SpoolError::Small(_))));
}

#[test]
fn what_is_too_old_is_dropped_record_by_record() {
    let place = Place::new();
    let mut spool = place.open();
    for hours in [1, 2, 3] {
        let at = NOW.0 + hours * 3600 * S;
        spool.append(&body(hours), 2, (at, at), NOW).expect("appended");
    }
    let at = |hours: u64, more: u64| Wall(NOW.0 + hours * 3600 * S + more);
    let (entry, _) = spool.front(at(2, 0)).expect("readable").expect("record");
    assert!(spool.waits(&entry));
    let (_, found) = spool.front(at(2, 1)).expect("readable").expect("record");
    assert_eq!((found, spool.figures().dropped, spool.lines()), (body(2), 2, 4));
    assert!(!spool.waits(&entry));
    // the whole segment
    drop(spool);
    let mut spool = Spool::open(&place.options(64 << 20, Duration::from_secs(3600)), at(4, 1)).expect("spool");
    assert_eq!(spool.figures(), Figures { found: 4, dropped: 4, ..Figures::default() });
    assert!(spool.front(at(4, 1)).expect("readable").is_none());
}

#[test]
fn a_dropped_record_is_settled_by_nobody() {
    let place = Place::new();
    let mut spool = Spool::open(&place.options(1 << 20, Duration::from_secs(3600)), NOW).expect("spool");
    let first = spool.append(&vec![1; 1 << 19], 5, (1 + NOW.0, 1 + NOW.0), NOW).expect("appended");
    spool.append(&vec![2; 1 << 19], 7, (1 + NOW.0, 1 + NOW.0), NOW).expect("appended");
    assert!(!spool.waits(&first));
    assert_eq!(spool.settle(&first, 5), 0);
    spool.finish(&first);
    assert!(spool.read(&first).expect("readable").is_none());
    assert_eq!((spool.lines(), spool.figures().dropped, spool.figures().damaged), (7, 5, 0));
}

#[test]
fn one_process_at_a_time() {
    let place = Place::new();
    let spool = place.open();
    let options = place.options(1 << 20, Duration::from_secs(1));
    let error = Spool::open(&options, NOW).expect_err("locked");
    assert!(matches!(&error, SpoolError::Locked(_)) && error.to_string().contains("another process"), "{error}");
    drop(spool);
    Spool::open(&options, NOW).expect("free again");
}

#[test]
fn what_cannot_be_a_spool_is_refused_with_a_remedy() {
    let place = Place::new();
    let file = place.0.path().join("file");
    std::fs::write(&file, "").expect("file");
    let options = Options { directory: file, ..place.options(1 << 20, Duration::from_secs(1)) };
    let error = Spool::open(&options, NOW).expect_err("a file").to_string();
    assert!(error.contains("name a directory that can be written"), "{error}");

    let mut spool = place.open();
    append(&mut spool, 0);
    drop(spool);
    let mut bytes = std::fs::read(place.segment(1)).expect("segment");
    bytes[8] = 9;
    let crc = crc32fast::hash(&bytes[..20]);
    bytes[20..24].copy_from_slice(&crc.to_le_bytes());
    std::fs::write(place.segment(1), &bytes).expect("written");
    let error = Spool::open(&place.options(1 << 20, Duration::from_secs(1)), NOW).expect_err("version").to_string();
    assert!(error.contains("is of version 9, this program reads version 1; let the program"), "{error}");
}

#[test]
fn damage_found_while_it_runs_is_counted_and_the_segment_set_aside() {
    let place = Place::new();
    let mut spool = place.open();
    let entries: Vec<_> = (0..4).map(|n| append(&mut spool, n)).collect();
    let mut bytes = std::fs::read(place.segment(1)).expect("segment");
    bytes[entries[1].offset as usize + record::RECORD_HEADER] ^= 1; // a body
    bytes[entries[2].offset as usize] ^= 1; // a header
    std::fs::write(place.segment(1), &bytes).expect("written");
    assert_eq!(drain(&mut spool), bodies([0, 3]));
    assert_eq!((spool.lines(), spool.figures().damaged), (0, 4));
    assert_eq!(place.files(), ["0000000000000001.damaged", "lock"]);

    // a file that is gone is damage, too; only a few damaged ones are kept, and no number comes twice
    append(&mut spool, 0);
    std::fs::remove_file(place.segment(2)).expect("removed");
    assert_eq!(drain(&mut spool), bodies([]));
    for number in 3..9 {
        let entry = append(&mut spool, 1);
        spool.damage(&entry, 2);
        assert_eq!(entry.segment, number);
    }
    assert_eq!(place.files(), (5..9).map(|n| format!("{n:016}.damaged")).chain(["lock".into()]).collect::<Vec<_>>());
    assert_eq!(spool.figures().damaged, 4 + 2 + 6 * 2);
    drop(spool);
    assert_eq!(append(&mut place.open(), 1).segment, 9);
}

#[test]
fn a_segment_that_the_disk_does_not_read_is_tried_again_and_then_set_aside_whole() {
    let place = Place::new();
    let mut spool = place.open();
    append(&mut spool, 0);
    let sound = place.0.path().join("sound");
    std::fs::rename(place.segment(1), &sound).expect("renamed");
    // it opens, and every read of it is an error
    std::fs::create_dir(place.segment(1)).expect("directory");
    for errors in 1..=5 {
        spool.front(NOW).expect_err("not readable");
        assert_eq!((spool.lines(), spool.figures().damaged, spool.figures().errors), (2, 0, errors));
    }
    // back again, nothing is lost
    std::fs::remove_dir(place.segment(1)).expect("removed");
    std::fs::rename(&sound, place.segment(1)).expect("renamed");
    assert_eq!(drain(&mut spool), bodies([0]));

    append(&mut spool, 1);
    std::fs::remove_file(place.segment(2)).expect("removed");
    std::fs::create_dir(place.segment(2)).expect("directory");
    for _ in 0..9 {
        spool.front(NOW).expect_err("not readable");
    }
    assert!(spool.front(NOW).expect("given up").is_none());
    assert_eq!((spool.lines(), spool.figures().damaged, spool.figures().errors), (0, 2, 15));
    assert_eq!(place.files(), ["0000000000000002.damaged", "lock"]);
}

/// Five records, and where each begins and the file ends.
fn five() -> (Place, Vec<u8>, Vec<u64>) {
    let place = Place::new();
    let mut spool = place.open();
    let mut places: Vec<_> = (0..5).map(|n| append(&mut spool, n).offset).collect();
    places.push(spool.bytes());
    drop(spool);
    let bytes = std::fs::read(place.segment(1)).expect("segment");
    (place, bytes, places)
}

/// Opens a spool whose only segment has these bytes, and drains it.
fn reopen(place: &Place, bytes: &[u8]) -> (Vec<Vec<u8>>, Figures) {
    for name in place.files().iter().filter(|name| *name != "lock") {
        std::fs::remove_file(place.0.path().join("spool").join(name)).expect("removed");
    }
    std::fs::write(place.segment(1), bytes).expect("written");
    let mut spool = place.open();
    let found = spool.lines();
    let drained = drain(&mut spool);
    let figures = spool.figures();
    assert_eq!(spool.lines(), 0);
    assert_eq!(figures.found + figures.dropped, drained.len() as u64 * 2 + figures.damaged, "conserved");
    assert!(found >= drained.len() as u64 * 2);
    (drained, figures)
}

#[test]
fn a_file_cut_anywhere_loses_at_most_the_record_it_is_cut_in() {
    let (place, bytes, places) = five();
    for cut in 0..=bytes.len() {
        let (drained, figures) = reopen(&place, &bytes[..cut]);
        let whole = places[1..].iter().filter(|end| **end <= cut as u64).count() as u64;
        assert_eq!(drained, bodies(0..whole), "cut at {cut}");
        let clean = places.contains(&(cut as u64)) || cut < record::SEGMENT_HEADER;
        assert_eq!(figures.damaged > 0, !clean, "cut at {cut}: {figures:?}");
        assert_eq!(place.files(), ["lock"], "an unfinished end is no damage to keep");
    }
}

#[test]
fn any_wrong_byte_loses_at_most_the_record_it_is_in() {
    let (place, bytes, places) = five();
    for at in 0..bytes.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut wrong = bytes.clone();
            wrong[at] ^= flip;
            let hit = places.iter().rposition(|begin| *begin <= at as u64).map(|n| n as u64);
            let (drained, figures) = reopen(&place, &wrong);
            let all = bodies(0..5);
            if drained == all {
                // the segment's header, or a mark, which matters to nobody
                let in_mark = hit.is_some_and(|n| (4..8).contains(&(at as u64 - places[n as usize])));
                assert!(hit.is_none() || in_mark, "byte {at}");
                assert_eq!(figures.damaged, 0);
            } else {
                let hit = hit.expect("a record");
                assert_eq!(drained, bodies((0..5).filter(|n| *n != hit)), "byte {at}");
                assert!((1..=2).contains(&figures.damaged), "byte {at}: {figures:?}");
            }
        }
    }
}

#[test]
fn a_mark_survives_as_long_as_all_of_it_does() {
    let (place, mut bytes, places) = five();
    let mark = places[1] as usize + record::MARK_AT as usize;
    bytes[mark..mark + 4].copy_from_slice(&record::DONE);
    assert_eq!(reopen(&place, &bytes).0, bodies([0, 2, 3, 4]));
    for at in mark..mark + 4 {
        let mut wrong = bytes.clone();
        wrong[at] ^= 4;
        assert_eq!(reopen(&place, &wrong).0, bodies(0..5), "delivered again rather than lost");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_bytes_are_opened_and_nothing_wrong_comes_out(
        junk in proptest::collection::vec((any::<prop::sample::Index>(), proptest::collection::vec(any::<u8>(), 1..60)), 1..4),
        insert in any::<bool>(),
    ) {
        let (place, mut bytes, _) = five();
        for (at, junk) in junk {
            let at = at.index(bytes.len());
            let end = if insert { at } else { bytes.len().min(at + junk.len()) };
            bytes.splice(at..end, junk);
        }
        let (drained, _) = reopen(&place, &bytes);
        let all = bodies(0..5);
        prop_assert!(drained.iter().all(|body| all.contains(body)));
        prop_assert!(drained.is_sorted_by_key(|body| all.iter().position(|one| one == body)));
    }
}
