//! Files that are damaged, of others, or of the future.

use super::*;
use redb::{Database, TableDefinition};
use std::path::PathBuf;

const PATHS: u32 = 40;
const INTERVALS: u64 = 100;

/// A history of some intervals, closed in order, and its file.
fn filled(directory: &FilePath) -> PathBuf {
    let history = History::open(options(directory)).expect("opens");
    let paths: Vec<_> = (0..PATHS).map(path).collect();
    (1..=INTERVALS).for_each(|number| history.writer().add(&interval(&paths, number)));
    wait(&history, "commits", |c| c.committed == INTERVALS * u64::from(PATHS));
    assert_eq!(history.close(Duration::from_secs(60)), 0);
    directory.join("history.redb")
}

fn aside(directory: &FilePath) -> Vec<String> {
    let names = std::fs::read_dir(directory).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.contains(".damaged-")).collect()
}

/// Opens what is there; fails unless it takes summaries and gives them back.
fn usable(directory: &FilePath) -> HistorySnapshot {
    let history = History::open(options(directory)).expect("opens whatever is there");
    let opened = history.counters().snapshot();
    history.writer().add(&interval(&[path(0)], INTERVALS + 7));
    wait(&history, "commit", |c| c.committed == 1);
    let extent = history.reader().extent().expect("an extent");
    let figures = history.reader().instant(extent.latest().unwrap(), &Filter::all()).expect("figures");
    assert_eq!(figures.value[0].figures.counts.sent, sent(INTERVALS + 7));
    history.close(Duration::from_secs(60));
    opened
}

#[test]
fn what_is_no_history_is_set_aside() {
    type Damage = fn(&mut Vec<u8>);
    let damages: [(&str, Damage); 5] = [
        ("cut in the middle", |bytes| bytes.truncate(bytes.len() / 2)),
        ("cut to a few bytes", |bytes| bytes.truncate(100)),
        ("zeroes", |bytes| bytes.fill(0)),
        ("a text", |bytes| *bytes = b"somebody's notes\n".repeat(1000)),
        ("its beginning is gone", |bytes| bytes[..4096].fill(0xff)),
    ];
    for (what, damage) in damages {
        let directory = tempfile::tempdir().expect("directory");
        let file = filled(directory.path());
        let mut bytes = std::fs::read(&file).unwrap();
        damage(&mut bytes);
        std::fs::write(&file, &bytes).unwrap();
        let counters = usable(directory.path());
        assert_eq!((counters.damaged_files, counters.newest), (1, 0), "{what}: {counters:?}");
        let aside = aside(directory.path());
        assert_eq!(aside.len(), 1, "{what}: {aside:?}");
        let said = counters.last_error.expect("a message");
        assert!(said.contains("is damaged") && said.contains(&aside[0]), "{what}: {said}");
        assert_eq!(std::fs::read(directory.path().join(&aside[0])).unwrap(), bytes, "{what}: kept as it was");
        assert_eq!(usable(directory.path()).damaged_files, 0, "{what}: the new one is sound");
    }
}

#[test]
fn an_empty_file_is_a_new_history() {
    let directory = tempfile::tempdir().expect("directory");
    std::fs::write(directory.path().join("history.redb"), b"").unwrap();
    assert_eq!(usable(directory.path()).damaged_files, 0);
}

#[test]
fn flipped_bytes_never_give_other_numbers() {
    let directory = tempfile::tempdir().expect("directory");
    let sound = std::fs::read(filled(directory.path())).unwrap();
    let (mut set_aside, mut intact) = (0, 0);
    for n in 0..60_usize {
        let directory = tempfile::tempdir().expect("directory");
        let mut bytes = sound.clone();
        // all over the file, odd places, a few bytes each
        let at = (n * bytes.len() / 60 + 977 * n) % (bytes.len() - 8);
        bytes[at..at + 1 + n % 8].iter_mut().for_each(|byte| *byte ^= 0x55);
        std::fs::write(directory.path().join("history.redb"), &bytes).unwrap();
        let history = History::open(options(directory.path())).expect("opens whatever is there");
        let counters = history.counters().snapshot();
        if counters.damaged_files == 1 {
            set_aside += 1;
        } else {
            intact += 1;
            check(&history, PATHS.into(), INTERVALS); // it hit room that nothing uses
        }
        history.close(Duration::from_secs(60));
    }
    assert!(set_aside > 0 && intact > 0, "{set_aside} set aside, {intact} not hit");
}

#[test]
fn damage_under_a_running_process_is_noticed_and_ends_in_a_new_file() {
    use std::os::unix::fs::FileExt;
    let directory = tempfile::tempdir().expect("directory");
    let file = filled(directory.path());
    let history = History::open(Options { cache_bytes: 0, ..options(directory.path()) }).expect("opens");
    let length = std::fs::metadata(&file).unwrap().len();
    let opened = std::fs::OpenOptions::new().write(true).open(&file).unwrap();
    // every page but the file's head: what is read now is nothing that was written
    (1..length / 4096).for_each(|page| opened.write_all_at(&[0x5a; 4096], page * 4096).unwrap());
    let reader = history.reader();
    let all = Window { from: Wall(BEGIN), to: Wall(BEGIN + INTERVALS * 10 * SECOND) };
    let answer = reader.series(all, &Filter::all(), Duration::from_secs(10));
    let points = answer.map_or(0, |answer| answer.value.len());
    assert!(points == 0 || history.counters().snapshot().damaged_blocks > 0, "{points} points of nothing");
    let mut number = INTERVALS;
    let counters = loop {
        number += 1;
        history.writer().add(&interval(&[path(0)], number));
        let counters = wait(&history, "commit", |c| c.queued == 0);
        if counters.damaged_files > 0 {
            break counters;
        }
        assert!(number < INTERVALS + 50, "never noticed: {counters:?}");
    };
    assert!(counters.last_error.is_some_and(|e| e.contains("set aside")));
    number += 1;
    history.writer().add(&interval(&[path(0)], number));
    wait(&history, "commit to the new file", |c| c.newest == BEGIN + number * 10 * SECOND && c.queued == 0);
    let latest = reader.extent().expect("it answers again").latest().unwrap();
    let figures = reader.instant(latest, &Filter::all()).expect("figures").value;
    assert_eq!(figures[0].figures.counts.sent, sent(number));
    assert_eq!(history.close(Duration::from_secs(60)), 0);
}

#[test]
fn a_file_of_a_newer_version_stays_and_is_refused() {
    let directory = tempfile::tempdir().expect("directory");
    let file = filled(directory.path());
    let database = Database::open(&file).expect("opens");
    let transaction = database.begin_write().unwrap();
    let meta: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
    transaction.open_table(meta).unwrap().insert("format", 99).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let before = std::fs::read(&file).unwrap();
    let error = History::open(options(directory.path())).expect_err("is newer").to_string();
    assert!(error.contains("has format 99, and this version reads up to 1; use the newer version"), "{error}");
    assert_eq!(aside(directory.path()), [""; 0]);
    assert_eq!(std::fs::read(&file).unwrap().len(), before.len());
}

#[test]
fn a_database_of_another_program_is_set_aside() {
    let directory = tempfile::tempdir().expect("directory");
    let database = Database::create(directory.path().join("history.redb")).expect("creates");
    let transaction = database.begin_write().unwrap();
    let theirs: TableDefinition<'_, u64, u64> = TableDefinition::new("theirs");
    transaction.open_table(theirs).unwrap().insert(1, 1).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let counters = usable(directory.path());
    assert_eq!(counters.damaged_files, 1);
    assert!(counters.last_error.unwrap().contains("another program"));
}

#[test]
fn only_the_newest_damaged_files_are_kept() {
    let directory = tempfile::tempdir().expect("directory");
    for seconds in [1, 2, 3, 10] {
        std::fs::write(directory.path().join(format!("history.redb.damaged-{seconds}")), b"x").unwrap();
    }
    std::fs::write(directory.path().join("history.redb"), b"this is none").unwrap();
    assert_eq!(usable(directory.path()).damaged_files, 1);
    let aside = aside(directory.path());
    assert!(aside.len() == 2 && aside.contains(&"history.redb.damaged-10".to_string()), "{aside:?}");
}

#[test]
fn levels_cannot_change() {
    let directory = tempfile::tempdir().expect("directory");
    filled(directory.path());
    let mut other = options(directory.path());
    other.levels.pop();
    let error = History::open(other).expect_err("has others").to_string();
    assert!(error.contains("has levels of [300, 3600] s, not of [300] s"), "{error}");
    assert_eq!(usable(directory.path()).damaged_files, 0);
}
