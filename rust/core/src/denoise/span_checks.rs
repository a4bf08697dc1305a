//! Checks of ids and phases against the options of span corruption.

use super::span_options::SpanCorruption;
use crate::tokens::Token;
use crate::{Error, Result};

/// Refuses phases that do not fit the rows or the weights.
pub(super) fn check_phases(phases: Option<&[i64]>, rows: usize, known: usize) -> Result<()> {
    match phases {
        None if known == 1 => Ok(()),
        None => Err(Error::Shape(format!(
            "there are weights of {known} phases, but the phase of no row is known"
        ))),
        Some(phases) if phases.len() != rows => Err(Error::Shape(format!(
            "phases holds {} numbers for {rows} rows, expected one a row",
            phases.len()
        ))),
        Some(phases) => match phases.iter().find(|phase| !(0..known as i64).contains(*phase)) {
            Some(phase) => {
                Err(Error::argument("phases", phase, format!("0 to {}", known.saturating_sub(1))))
            }
            None => Ok(()),
        },
    }
}

/// Refuses ids of the options that the output or the vocabulary cannot hold.
pub(super) fn check_output_ids(options: &SpanCorruption, largest: i64) -> Result<()> {
    let (_, last_sentinel) = options.sentinels.range();
    let prefixes = options.denoisers.iter().map(|denoiser| ("prefix_token_id", denoiser.prefix));
    let ids = [
        ("the highest sentinel", Some(last_sentinel)),
        ("eos_token_id", options.input_end),
        ("target_end_token_id", options.target_end),
        ("pad_token_id", Some(options.pad)),
        ("decoder_start_token_id", Some(options.decoder_start)),
    ];
    match ids.into_iter().chain(prefixes).find(|(_, id)| id.is_some_and(|id| id > largest)) {
        Some((name, Some(id))) => Err(Error::argument(
            name,
            id,
            format!("an id of {largest} at most (see vocab_size and dtype)"),
        )),
        _ => Ok(()),
    }
}

/// Refuses ids that the output cannot hold, and ids that are sentinels, since the target could not
/// tell them apart from its own.
#[inline(always)]
pub(super) fn check_ids<T: Token>(
    ids: &[T],
    row: usize,
    options: &SpanCorruption,
    largest: i64,
) -> Result<()> {
    let (lowest, highest) = options.sentinels.range();
    let end = largest.saturating_add(1);
    // Sentinels are the last ids of most vocabularies, so that one comparison is enough.
    if T::all_within(ids, 0, end.min(lowest)) {
        return Ok(());
    }
    let bad = |id: i64| id < 0 || id > largest || (lowest <= id && id <= highest);
    let Some(column) = ids.iter().position(|id| bad(id.widen())) else { return Ok(()) };
    let id = ids[column].widen();
    let place = format!("ids has {id} at row {row}, column {column}");
    Err(Error::Shape(if id < 0 {
        format!("{place}, expected 0 or more")
    } else if id > largest {
        format!("{place}, expected an id of {largest} at most (see vocab_size and dtype)")
    } else {
        format!(
            "{place}, which is one of the sentinels {lowest} to {highest}: a text must not hold them"
        )
    }))
}
