//! What a collector answers at `/api/v1/summaries?after=…`: summaries in order of their sequence numbers.
//!
//! Pure: bytes → [`Page`]. A summary that is not understood (a later version wrote it) costs no other one.

use super::positions::is_instance;
use crate::sink::record::OwnedRecord;
use crate::summary::Summary;
use serde::Deserialize;
use serde_json::Value;

/// Summaries asked for at once.
pub const PAGE: usize = 500;

/// An answer.
#[derive(Debug, Default)]
pub struct Page {
    /// Which run of the collector; sequence numbers of another one mean something else.
    pub instance: String,
    /// The summaries that were understood, in order.
    pub summaries: Vec<Summary>,
    /// Objects in the answer.
    pub objects: usize,
    /// Sequence number of the first and of the last object.
    pub span: Option<(u64, u64)>,
    /// Objects that were not understood, and why not the first of them.
    pub unreadable: u64,
    /// Why the first of them was not.
    pub reason: Option<String>,
}

#[derive(Deserialize)]
struct Raw<T> {
    instance: String,
    summaries: Vec<T>,
}

/// Reads an answer.
///
/// # Errors
/// It is no such answer, or its sequence numbers do not ascend.
pub fn parse(bytes: &[u8]) -> Result<Page, String> {
    match serde_json::from_slice::<Raw<OwnedRecord>>(bytes) {
        Ok(raw) => {
            let records = raw.summaries.into_iter().map(|record| (record.sequence, Ok(record)));
            collect(raw.instance, records)
        }
        // one of them may be at fault: one by one then
        Err(error) => {
            let raw: Raw<Value> = serde_json::from_slice(bytes).map_err(|_| error.to_string())?;
            let records = raw.summaries.into_iter().map(|value| {
                let sequence = value.get("sequence").and_then(Value::as_u64).unwrap_or(0);
                (sequence, serde_json::from_value::<OwnedRecord>(value).map_err(|error| error.to_string()))
            });
            collect(raw.instance, records)
        }
    }
}

fn collect(
    instance: String,
    records: impl Iterator<Item = (u64, Result<OwnedRecord, String>)>,
) -> Result<Page, String> {
    if !is_instance(&instance) {
        return Err("its instance is no word of letters and digits".into());
    }
    let mut page = Page { instance, ..Page::default() };
    for (sequence, record) in records {
        // numbers begin at 1; 0 is what a missing one reads as
        let before = page.span.map_or(0, |(_, last)| last);
        if sequence <= before {
            return Err(format!("sequence number {sequence} after {before}"));
        }
        page.span = Some((page.span.map_or(sequence, |(first, _)| first), sequence));
        page.objects += 1;
        match record.and_then(|record| Summary::try_from(record).map_err(|error| error.to_string())) {
            Ok(summary) => page.summaries.push(summary),
            Err(reason) => {
                page.unreadable += 1;
                page.reason.get_or_insert(reason);
            }
        }
    }
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::recent::{Limits, Recent};
    use crate::sink::record::{SummaryRecord, samples};
    use serde_json::json;

    fn object(sequence: u64) -> Value {
        let mut object = serde_json::to_value(SummaryRecord::from(&samples::full())).unwrap();
        object["sequence"] = json!(sequence);
        object
    }

    fn answer(summaries: &[Value]) -> Result<Page, String> {
        parse(json!({"instance": "00ff", "first": 1, "next": 9, "summaries": summaries}).to_string().as_bytes())
    }

    #[test]
    fn a_page() {
        let page = answer(&[object(7), object(9)]).unwrap();
        assert_eq!((page.instance.as_str(), page.objects, page.span), ("00ff", 2, Some((7, 9))));
        let expected = Summary { rtt_histogram: Vec::new(), ..samples::full() };
        assert_eq!(format!("{:?}", page.summaries[1]), format!("{expected:?}"));
        let empty = answer(&[]).unwrap();
        assert_eq!((empty.objects, empty.span), (0, None));
    }

    #[test]
    fn what_is_not_understood_costs_no_other() {
        let (mut odd, mut later) = (object(8), object(9));
        odd["sent"] = json!("many");
        later["method"] = json!("carrier pigeon");
        let page = answer(&[object(7), odd, later, object(10)]).unwrap();
        assert_eq!((page.summaries.len(), page.unreadable, page.span), (2, 2, Some((7, 10))));
        assert!(page.reason.unwrap().contains("many"));
    }

    #[test]
    fn what_is_no_page_is_refused() {
        for numbers in [[0, 1], [2, 2], [2, 1]] {
            assert!(answer(&numbers.map(object)).unwrap_err().contains("sequence number"), "{numbers:?}");
        }
        let nameless = json!({"instance": "a b\n", "summaries": []}).to_string();
        assert!(parse(nameless.as_bytes()).unwrap_err().contains("instance"));
        let whole = json!({"instance": "00ff", "summaries": [object(1)]}).to_string();
        for text in ["", "[]", "{}", "null", "<html>", &whole[..whole.len() - 1], r#"{"error":"x","remedy":"y"}"#] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn instances_of_collectors_are_instances() {
        assert!(is_instance(Recent::new(Limits::default()).instance()));
    }
}
