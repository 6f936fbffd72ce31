//! Rounds, medians, and the memory of this process.

use std::time::Instant;

use crate::error::Result;

/// Rounds of a measurement: enough for a median, and for their spread to show how quiet the machine is.
const ROUNDS: usize = 5;

/// Calls `work` at least `calls` times and for a fifth of `seconds`, so that caches, allocators and clocks
/// have settled.
pub(super) fn warm_up(seconds: f64, calls: usize, mut work: impl FnMut() -> Result<()>) -> Result<()> {
    let begin = Instant::now();
    let mut done = 0;
    while done < calls || begin.elapsed().as_secs_f64() < seconds / 5.0 {
        work()?;
        done += 1;
    }
    Ok(())
}

/// Calls `work` for `seconds` in several rounds, at least once in each; gives units a second of each round.
///
/// - `work`: gives how many units it did.
pub(super) fn rounds(seconds: f64, mut work: impl FnMut() -> Result<usize>) -> Result<Vec<f64>> {
    let mut speeds = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let begin = Instant::now();
        let mut units = 0;
        loop {
            units += work()?;
            let elapsed = begin.elapsed().as_secs_f64();
            if elapsed >= seconds / ROUNDS as f64 {
                speeds.push(units as f64 / elapsed);
                break;
            }
        }
    }
    Ok(speeds)
}

/// The value below which the share `q` of the values lies (the nearest rank); 0 without values.
pub(super) fn quantile(values: &[f64], q: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (q * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied().unwrap_or(0.0)
}

/// Seconds of processor time that this process has used so far, all threads together; `None` where the system
/// does not say. Unlike the clock it leaves out what other programs did meanwhile.
pub(super) fn processor_seconds() -> Option<f64> {
    // The name of the program stands in brackets and may hold anything; user and system time are fields 14
    // and 15, in ticks of which Linux shows 100 a second on every machine.
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_whitespace().skip(11).take(2).map(|field| field.parse::<f64>().ok());
    Some((times.next()?? + times.next()??) / 100.0)
}

/// The largest resident set of this process so far, in MiB; `None` where the system does not say.
pub(super) fn peak_rss_mb() -> Option<f64> {
    status("VmHWM:")
}

/// The resident set of this process now, in MiB; `None` where the system does not say.
pub(super) fn rss_mb() -> Option<f64> {
    status("VmRSS:")
}

fn status(key: &str) -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(rounded(kib / 1024.0, 1))
}

/// `value` with so many decimals.
pub(super) fn rounded(value: f64, decimals: i32) -> f64 {
    let scale = 10f64.powi(decimals);
    (value * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_of_the_sample() {
        let values = [5.0, 1.0, 4.0, 2.0, 3.0];
        assert_eq!(quantile(&values, 0.5), 3.0);
        assert_eq!(quantile(&values, 0.99), 5.0);
        assert_eq!(quantile(&values, 0.0), 1.0);
        assert_eq!(quantile(&[7.0], 0.5), 7.0);
        assert_eq!(quantile(&[], 0.5), 0.0);
    }

    #[test]
    fn every_round_counts_the_units_of_its_calls() -> Result<()> {
        let mut calls = 0;
        let speeds = rounds(0.01, || {
            calls += 1;
            std::thread::sleep(std::time::Duration::from_millis(1));
            Ok(10)
        })?;
        assert_eq!(speeds.len(), ROUNDS);
        assert!(calls >= ROUNDS, "{calls}");
        // A call takes a millisecond or more, so ten units cannot be faster than that.
        assert!(speeds.iter().all(|&speed| speed > 0.0 && speed <= 10_000.0), "{speeds:?}");
        Ok(())
    }

    #[test]
    fn the_warm_up_makes_its_calls_however_short_it_is() -> Result<()> {
        let mut calls = 0;
        warm_up(1e-9, 7, || {
            calls += 1;
            Ok(())
        })?;
        assert_eq!(calls, 7);
        Ok(())
    }
}
