//! Interleaved rounds, and what they come to.

use std::io::Write;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::Result;

/// One thing that is measured: a name, and what does it once and says how long it took.
pub(crate) struct Subject<'a> {
    name: String,
    once: Box<dyn FnMut() -> Result<Duration> + 'a>,
}

impl<'a> Subject<'a> {
    /// Something that times itself.
    pub(crate) fn new(name: impl Into<String>, once: impl FnMut() -> Result<Duration> + 'a) -> Self {
        Self { name: name.into(), once: Box::new(once) }
    }

    /// A command, from its start to its end; it must exit with code 0.
    pub(crate) fn command(name: impl Into<String>, mut command: Command) -> Self {
        Self::new(name, move || {
            let start = Instant::now();
            let status = command.status()?;
            let took = start.elapsed();
            if status.success() { Ok(took) } else { Err(format!("{command:?}: {status}").into()) }
        })
    }
}

/// Measures all subjects in turn, `rounds` times, beginning with another one each round so that none always follows
/// the same neighbour. Ratios are to the subject `base`.
pub(crate) fn interleaved(
    group: &str,
    base: usize,
    rounds: usize,
    subjects: Vec<Subject<'_>>,
) -> Result<Value> {
    let mut subjects = subjects;
    let before = load();
    let count = subjects.len();
    let mut times = vec![Vec::with_capacity(rounds); count];
    // The first rounds fill caches.
    let warm = (rounds / 10).clamp(1, 5);
    for round in 0..rounds + warm {
        for offset in 0..count {
            let at = (round + offset) % count;
            let took = (subjects[at].once)().map_err(|e| format!("{}: {e}", subjects[at].name))?;
            if round >= warm {
                times[at].push(took.as_secs_f64() * 1e3);
            }
        }
    }
    let mut rows = Vec::new();
    for (subject, taken) in subjects.iter().zip(&times) {
        let paired: Vec<f64> = taken.iter().zip(&times[base]).map(|(a, b)| a / b).collect();
        rows.push(json!({
            "name": subject.name,
            "median_ms": quantile(taken, 0.5),
            "p10_ms": quantile(taken, 0.1),
            "p90_ms": quantile(taken, 0.9),
            "ratio_of_medians": quantile(taken, 0.5) / quantile(&times[base], 0.5),
            "median_of_ratios": quantile(&paired, 0.5),
        }));
    }
    let table = json!({ "group": group, "rounds": rounds, "ratio_to": subjects[base].name, "rows": rows,
        // Runnable tasks while this was measured: above the number of CPUs the times are mostly waiting.
        "load_before": before, "load_after": load() });
    print(&table)?;
    Ok(table)
}

/// The load average of the last minute.
fn load() -> Option<f64> {
    std::fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}

fn quantile(values: &[f64], q: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = (sorted.len() - 1) as f64 * q;
    let (low, high) = (at.floor() as usize, at.ceil() as usize);
    sorted[low] + (sorted[high] - sorted[low]) * (at - at.floor())
}

fn print(table: &Value) -> Result<()> {
    let mut err = std::io::stderr().lock();
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    writeln!(
        err,
        "\n{} ({} rounds, interleaved; × is to: {}; load {} to {})",
        text(&table["group"]),
        table["rounds"],
        text(&table["ratio_to"]),
        table["load_before"],
        table["load_after"]
    )?;
    writeln!(err, "{:44} {:>10} {:>10} {:>10} {:>7} {:>7}", "", "median ms", "p10", "p90", "×", "paired")?;
    for row in table["rows"].as_array().into_iter().flatten() {
        let number = |key: &str| row[key].as_f64().unwrap_or(f64::NAN);
        writeln!(
            err,
            "{:44} {:10.2} {:10.2} {:10.2} {:7.2} {:7.2}",
            text(&row["name"]),
            number("median_ms"),
            number("p10_ms"),
            number("p90_ms"),
            number("ratio_of_medians"),
            number("median_of_ratios")
        )?;
    }
    Ok(())
}
