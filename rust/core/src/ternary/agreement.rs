//! How much of a tensor its trits keep, in one pass.

use crate::{Error, Result, threads};

/// Inner products of a tensor w with its trits t: cos(w, t) = dot / sqrt(square * nonzeros).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Agreement {
    /// Sum of w t.
    pub dot: f64,
    /// Sum of w^2.
    pub square: f64,
    /// Sum of t^2.
    pub nonzeros: u64,
}

/// Compares each tensor with its trits.
///
/// # Errors
/// [`Error::Shape`] if they do not have the same lengths.
pub fn agreement(
    tensors: &[&[f32]],
    trits: &[&[i8]],
    num_threads: usize,
) -> Result<Vec<Agreement>> {
    if tensors.len() != trits.len() || tensors.iter().zip(trits).any(|(w, t)| w.len() != t.len()) {
        return Err(Error::Shape("the trits do not have the lengths of the tensors".into()));
    }
    let mut results = vec![Agreement::default(); tensors.len()];
    let work = results.iter_mut().zip(tensors).zip(trits).collect();
    threads::for_each(num_threads, work, |((result, w), t): ((&mut Agreement, _), _)| {
        *result = compare(w, t);
        Ok(())
    })?;
    Ok(results)
}

/// Eight interleaved sums: a fixed order, and the compiler can use vectors.
fn compare(tensor: &[f32], trits: &[i8]) -> Agreement {
    let (rows, rest) = tensor.as_chunks::<8>();
    let (trit_rows, trit_rest) = trits.as_chunks::<8>();
    let (mut dots, mut squares) = ([0.0; 8], [0.0; 8]);
    for (row, trit_row) in rows.iter().zip(trit_rows) {
        for lane in 0..8 {
            let w = f64::from(row[lane]);
            dots[lane] += w * f64::from(trit_row[lane]);
            squares[lane] += w * w;
        }
    }
    for (w, t) in rest.iter().zip(trit_rest) {
        dots[0] += f64::from(*w) * f64::from(*t);
        squares[0] += f64::from(*w).powi(2);
    }
    let nonzeros = trits.iter().map(|t| u64::from(*t != 0)).sum();
    Agreement { dot: dots.iter().sum(), square: squares.iter().sum(), nonzeros }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worked_by_hand() {
        let tensor: Vec<f32> = (1..=9).map(|i| i as f32).collect();
        let trits = [0, 0, 0, -1, 0, 0, 1, 1, 1];
        let found = agreement(&[&tensor, &[]], &[&trits, &[]], 2).unwrap();
        assert_eq!(found[0], Agreement { dot: 20.0, square: 285.0, nonzeros: 4 });
        assert_eq!(found[1], Agreement::default());
        assert!(agreement(&[&tensor], &[&trits[1..]], 1).is_err());
    }
}
