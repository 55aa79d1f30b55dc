//! A histogram drawn with characters.
//!
//! Bins have round edges: even steps for narrow samples, even ratios for wide ones, and whole decades
//! for the tail above the 99th percentile, so that one straggler does not squeeze the rest into a line.

use super::units::{count, percent, span};

/// Bins below the 99th percentile at most.
const BULK_BINS: usize = 10;
/// Mantissas per decade, times ten, from fine to coarse.
const SERIES: [&[u64]; 5] = [
    &[10, 11, 12, 13, 15, 16, 18, 20, 22, 24, 27, 30, 33, 36, 39, 43, 47, 51, 56, 62, 68, 75, 82, 91],
    &[10, 12, 15, 18, 22, 27, 33, 39, 47, 56, 68, 82],
    &[10, 15, 20, 30, 50, 70],
    &[10, 20, 50],
    &[10],
];

/// Values from `from` up to, not including, `to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bin {
    /// Lower edge, ns.
    pub from: u64,
    /// Upper edge, ns.
    pub to: u64,
    /// How many values.
    pub count: u64,
}

/// Bins for `values`, (ns, count) in ascending order. Empty bins stay between full ones of the bulk only.
pub fn bins(values: &[(u64, u64)]) -> Vec<Bin> {
    let total: u64 = values.iter().map(|v| v.1).sum();
    let (Some(first), Some(last)) = (values.first(), values.last()) else { return Vec::new() };
    let rank = (total - total / 100).max(1);
    let mut seen = 0;
    let p99 = values.iter().find(|v| {
        seen += v.1;
        seen >= rank
    });
    let high = p99.unwrap_or(last).0;
    let edges = edges(first.0, high, last.0);
    let bulk_end = edges.iter().position(|e| *e > high).unwrap_or(edges.len());
    let mut bins: Vec<Bin> = edges.windows(2).map(|e| Bin { from: e[0], to: e[1], count: 0 }).collect();
    for (value, n) in values {
        let at = edges.partition_point(|e| e <= value);
        if let Some(bin) = at.checked_sub(1).and_then(|at| bins.get_mut(at)) {
            bin.count += n;
        }
    }
    let mut at = 0;
    bins.retain(|bin| {
        at += 1;
        bin.count > 0 || at <= bulk_end
    });
    while bins.last().is_some_and(|bin| bin.count == 0) {
        bins.pop();
    }
    bins
}

/// Ascending edges from at most `low` to above `max`, fine up to `high`.
fn edges(low: u64, high: u64, max: u64) -> Vec<u64> {
    let mut edges = if high / 4 < low { even_steps(low, high) } else { even_ratios(low, high) };
    let mut decade = 1u64;
    while edges.last().is_some_and(|e| *e <= max) {
        let Some(next) = decade.checked_mul(10) else {
            edges.push(u64::MAX);
            break;
        };
        decade = next;
        if edges.last().is_some_and(|e| *e < decade) {
            edges.push(decade);
        }
    }
    edges
}

fn even_steps(low: u64, high: u64) -> Vec<u64> {
    let wish = ((high - low) / (BULK_BINS as u64 - 2)).max(1);
    let mut scale = 1u64;
    while scale.saturating_mul(10) <= wish {
        scale *= 10;
    }
    let step = [1, 2, 5, 10].into_iter().map(|m| m * scale).find(|s| *s >= wish).unwrap_or(wish);
    let mut edge = low / step * step;
    let mut edges = vec![edge];
    while edge <= high {
        edge = edge.saturating_add(step);
        edges.push(edge);
    }
    edges
}

fn even_ratios(low: u64, high: u64) -> Vec<u64> {
    let mut best = Vec::new();
    for series in SERIES {
        let mut edges = vec![0];
        let mut decade = 1u64;
        'out: loop {
            for mantissa in series {
                // below 10 ns mantissas are not whole; the duplicates this makes are left out
                let edge = (u128::from(*mantissa) * u128::from(decade) / 10).min(u128::from(u64::MAX)) as u64;
                if edges.last().is_some_and(|e| *e < edge) {
                    edges.push(edge);
                }
                if edge > high {
                    break 'out;
                }
            }
            decade = decade.saturating_mul(10);
        }
        let start = edges.partition_point(|e| *e <= low).saturating_sub(1);
        best = edges.split_off(start);
        if best.len() <= BULK_BINS + 1 {
            break;
        }
    }
    best
}

/// One line per bin: edges, bar, count, share up to here; `width` characters at most (40 or more).
pub fn draw(bins: &[Bin], width: usize) -> Vec<String> {
    let total: u64 = bins.iter().map(|b| b.count).sum();
    let most = bins.iter().map(|b| b.count).max().unwrap_or(0);
    let labels: Vec<String> = bins.iter().map(|b| span(b.from, b.to)).collect();
    let label = labels.iter().map(|l| l.chars().count()).max().unwrap_or(0);
    let number = count(most).chars().count();
    // two blanks before the bar, before the number and before the share, which takes 8
    let bar = width.saturating_sub(label + number + 2 + 2 + 2 + 8).clamp(8, 40);
    let mut up_to = 0;
    let line = |(bin, name): (&Bin, &String)| {
        up_to += bin.count;
        let share = percent(100.0 * up_to as f64 / total as f64);
        format!("{name:>label$}  {:<bar$}  {:>number$}  {share:>8}", blocks(bin.count, most, bar), count(bin.count))
    };
    bins.iter().zip(&labels).map(line).collect()
}

/// A bar of `n` of `most`, at most `width` characters, in eighths; something is shown for every `n` > 0.
fn blocks(n: u64, most: u64, width: usize) -> String {
    if n == 0 || most == 0 {
        return String::new();
    }
    let eighths = ((n as f64 / most as f64) * (width * 8) as f64).round().max(1.0) as usize;
    let mut bar = "█".repeat(eighths / 8);
    bar.extend(['▏', '▎', '▍', '▌', '▋', '▊', '▉'].get((eighths % 8).wrapping_sub(1)));
    bar
}

/// One character per loss in percent, on a scale that shows small losses: `·` none, blank not measured.
pub fn spark(losses: impl IntoIterator<Item = Option<f64>>) -> String {
    const LEVELS: [(f64, char); 8] =
        [(30.0, '█'), (10.0, '▇'), (5.0, '▆'), (2.0, '▅'), (1.0, '▄'), (0.5, '▃'), (0.1, '▂'), (0.0, '▁')];
    let character = |loss: Option<f64>| match loss {
        None => ' ',
        Some(loss) => LEVELS.iter().find(|(above, _)| loss > *above).map_or('·', |(_, c)| *c),
    };
    losses.into_iter().map(character).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn narrow_samples_get_even_steps() {
        let values: Vec<(u64, u64)> = (0..100).map(|i| (20_000 + i * 100, 1)).collect();
        let bins = bins(&values);
        assert_eq!((bins[0].from, bins[0].to, bins[0].count), (20_000, 22_000, 20));
        assert_eq!(bins.len(), 5);
    }

    #[test]
    fn a_straggler_stands_alone() {
        let mut values: Vec<(u64, u64)> = (20..30).map(|us| (us * 1000, 100)).collect();
        values.push((70_000_000, 1));
        let bins = bins(&values);
        let shown: Vec<(u64, u64)> = bins.iter().map(|b| (b.from, b.count)).collect();
        assert_eq!(shown.len(), 6, "{bins:?}");
        assert_eq!(shown[0], (20_000, 200));
        assert_eq!(shown[5], (10_000_000, 1));
    }

    #[test]
    fn drawn() {
        let bins = [
            Bin { from: 20_000, to: 50_000, count: 300 },
            Bin { from: 50_000, to: 100_000, count: 100 },
            Bin { from: 1_000_000, to: 10_000_000, count: 1 },
        ];
        assert_eq!(
            draw(&bins, 44),
            [
                " 20 – 50 µs  ████████████████  300    74.8 %",
                "50 – 100 µs  █████▍            100    99.8 %",
                "  1 – 10 ms  ▏                   1     100 %",
            ]
            .map(|l| l.to_owned())
        );
    }

    #[test]
    fn sparks_show_small_losses() {
        assert_eq!(spark([None, Some(0.0), Some(0.01), Some(0.2), Some(3.0), Some(100.0)]), " ·▁▂▅█");
    }

    proptest! {
        #[test]
        fn no_value_is_left_out(values in prop::collection::btree_map(0u64.., 1u64..1000, 1..50), wide in any::<bool>()) {
            let values: Vec<(u64, u64)> = values.into_iter()
                .map(|(v, n)| (if wide { v >> (v % 60) } else { v % 10_000 }, n))
                .collect::<std::collections::BTreeMap<_, _>>().into_iter().collect();
            let bins = bins(&values);
            let total: u64 = values.iter().map(|v| v.1).sum();
            if values.last().unwrap().0 < u64::MAX {
                prop_assert_eq!(bins.iter().map(|b| b.count).sum::<u64>(), total);
            }
            prop_assert!(bins.len() <= 40, "{:?}", bins);
            prop_assert!(bins.windows(2).all(|w| w[0].to <= w[1].from));
            let lines = draw(&bins, 80);
            prop_assert_eq!(lines.len(), bins.len());
        }
    }
}
