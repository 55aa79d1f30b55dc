//! The flows that points name: all that were listed where points have details, else the one that lost most.

use super::answer::Cell;
use super::condition::{Condition, during};
use super::newest::newest_answer;
use super::{InfluxSource, Part};
use crate::matrix::question::{Filter, Window};
use crate::matrix::source::{Answer, FlowAt, Moment, SourceError};
use crate::sink::influx::detail::{parse_flows, parse_worst_flow};
use crate::sink::influx::line::MEASUREMENT;
use crate::summary::FlowSummary;
use crate::time::Wall;
use std::time::Duration;

/// Flows of an answer at most.
pub(super) const FLOWS: usize = 200_000;

/// What is asked for, in the order of [`flows_of`].
const FIELDS: [&str; 4] = ["worst_flows", "worst_flow", "worst_flow_sent", "worst_flow_lost"];

/// The flows of one point.
fn flows_of(cells: &[Cell]) -> Vec<FlowSummary> {
    let [listed, worst, sent, lost] = cells else { return Vec::new() };
    if let Some(flows) = listed.text().and_then(parse_flows) {
        return flows;
    }
    let one = || {
        let (source, target, dscp) = parse_worst_flow(worst.text()?)?;
        let (sent, lost) = (sent.whole()?, lost.whole()?);
        Some(FlowSummary {
            source,
            target,
            dscp,
            sent,
            lost,
            lost_forward: 0,
            lost_reverse: 0,
            dscp_changed_forward: 0,
            dscp_changed_reverse: 0,
            rtt: None,
        })
    };
    one().into_iter().collect()
}

/// What the newest points are asked for: `sent` is in each, with flows or without.
const FIELDS_AT: [&str; 2] = ["sent", "interval_s"];

impl InfluxSource {
    /// The flows of the newest point of each path.
    pub(super) fn flows_at(
        &self,
        moment: Moment,
        filter: &Filter,
        condition: &Condition,
    ) -> Result<Answer<Vec<FlowAt>>, SourceError> {
        let fields = FIELDS_AT.into_iter().chain(FIELDS).map(|name| format!("\"{name}\"")).collect::<Vec<_>>();
        let newest = self.newest_of_each(moment, filter, condition, &fields.join(", "), |_, cells| {
            let [_, _, interval, flows @ ..] = &cells[..] else { return (None, Vec::new()) };
            let interval = interval.float().and_then(|s| Duration::try_from_secs_f64(s).ok());
            (interval, flows_of(flows))
        })?;
        let mut value = Vec::new();
        for one in &newest {
            let of = |flow: &FlowSummary| FlowAt { path: one.path.clone(), end: one.end, flow: flow.clone() };
            value.extend(one.value.iter().map(of));
            if value.len() > FLOWS {
                return Err(self.too_much(&format!("there are more than {FLOWS} flows")));
            }
        }
        value.sort_by_key(|flow| flow.end);
        Ok(newest_answer(moment, &newest, value))
    }

    /// The flows of the window, ascending by time and path.
    pub(super) fn flows_by_rows(
        &self,
        window: Window,
        filter: &Filter,
        condition: &Condition,
    ) -> Result<Answer<Vec<FlowAt>>, SourceError> {
        let fields = FIELDS.map(|name| format!("\"{name}\"")).join(", ");
        let (during, terms) = (during(window), &condition.text);
        let from = format!("FROM \"{MEASUREMENT}\" WHERE {during}{terms}");
        let counts = "count(\"worst_flow\"), count(\"worst_flows\"), max(\"interval_s\")";
        let cells = self.one(format!("SELECT {counts} {from}"))?.map(|(_, cells)| cells).unwrap_or_default();
        let points = cells.iter().take(2).filter_map(Cell::whole).max().unwrap_or(0);
        if points > FLOWS as u64 {
            return Err(self.too_much(&format!("{points} points name flows, {FLOWS} are read at most")));
        }
        let interval = cells.last().and_then(Cell::float).and_then(|s| Duration::try_from_secs_f64(s).ok());
        let mut value = Vec::new();
        self.ask(&[format!("SELECT {fields} {from} GROUP BY *")], filter, &mut |_, part| {
            let Part { path, series, .. } = part;
            for row in series.values {
                let Some((end, cells)) = row.split_first().and_then(|(time, rest)| Some((time.whole()?, rest))) else {
                    continue;
                };
                let flows = flows_of(cells);
                value.extend(flows.into_iter().map(|flow| FlowAt { path: path.clone(), end: Wall(end), flow }));
                if value.len() > FLOWS {
                    return Err(self.too_much(&format!("there are more than {FLOWS} flows")));
                }
            }
            Ok(())
        })?;
        value.sort_by(|a: &FlowAt, b: &FlowAt| a.end.cmp(&b.end).then_with(|| super::order(&a.path, &b.path)));
        Ok(Answer { value, window, resolution: interval.unwrap_or_default() })
    }
}
