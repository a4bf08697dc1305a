//! Writes the inputs and targets of a row from its runs.

use super::denoiser::{Denoiser, Inputs, Targets};
use super::span_options::SpanCorruption;
use super::span_plan::{PlannedRow, unended};
use crate::simd::Lanes;
use crate::tokens::{Id, Token};

/// Writes the inputs of a row, and returns the number of ids written. `ids` and `out` may extend
/// beyond the row. There, `out` may be overwritten, because long runs are copied in whole blocks.
#[inline(always)]
pub(super) fn write_inputs<L: Lanes, T: Token, O: Id>(
    ids: &[T],
    row: &PlannedRow,
    denoiser: &Denoiser,
    options: &SpanCorruption,
    out: &mut [O],
) -> usize {
    let (mut source, mut at) = (0, 0);
    if let Some(prefix) = denoiser.prefix {
        out[0] = O::from_i64(prefix);
        at = 1;
    }
    let mut sentinel = options.sentinels.first;
    let step = match denoiser.inputs {
        Inputs::UniqueSentinels => options.sentinels.step,
        _ => 0,
    };
    for (keep, noise) in row.keep.iter().zip(row.noise) {
        let (keep, noise) = (*keep as usize, *noise as usize);
        L::copy_long(&ids[source..], &mut out[at..], keep);
        source += keep + noise;
        at += keep;
        let marks = match denoiser.inputs {
            Inputs::UniqueSentinels | Inputs::OneSentinel => 1,
            Inputs::SentinelPerToken => noise,
            Inputs::Drop => 0,
        };
        if marks == 1 {
            out[at] = O::from_i64(sentinel);
        } else {
            out[at..at + marks].fill(O::from_i64(sentinel));
        }
        at += marks;
        sentinel += step;
    }
    let tail = row.keep[row.noise.len()] as usize;
    L::copy_long(&ids[source..], &mut out[at..], tail);
    end(options.input_end, out, at + tail)
}

/// Writes the targets of a row, under the same conditions.
#[inline(always)]
pub(super) fn write_targets<L: Lanes, T: Token, O: Id>(
    ids: &[T],
    length: usize,
    row: &PlannedRow,
    denoiser: &Denoiser,
    options: &SpanCorruption,
    out: &mut [O],
) -> usize {
    let mut at = 0;
    if denoiser.targets == Targets::Whole {
        L::copy_long(ids, out, length);
        return end(options.target_end, out, length);
    }
    let numbered = denoiser.targets == Targets::UniqueSentinels;
    let mut sentinel = options.sentinels.first;
    let mut source = 0;
    for (keep, noise) in row.keep.iter().zip(row.noise) {
        source += *keep as usize;
        if numbered {
            out[at] = O::from_i64(sentinel);
            at += 1;
            sentinel += options.sentinels.step;
        }
        let noise = *noise as usize;
        L::copy_short(&ids[source..], &mut out[at..], noise);
        source += noise;
        at += noise;
    }
    if numbered && row.noise.is_empty() && unended(denoiser) {
        out[0] = O::from_i64(sentinel);
        at = 1;
    }
    end(options.target_end, out, at)
}

#[inline(always)]
fn end<O: Id>(id: Option<i64>, out: &mut [O], at: usize) -> usize {
    match id {
        None => at,
        Some(id) => {
            out[at] = O::from_i64(id);
            at + 1
        }
    }
}
