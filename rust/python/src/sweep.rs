//! Binding of `replace::sweep_tile`: the states of some rows while a head visits the vocabulary.

use metro_fast_core::replace::{Draws, RowState, Sampling, SweepDraw, Tile, sweep_tile};
use metro_fast_core::rng::{Key, Stream};
use metro_fast_core::tokens::SampleIds;
use metro_fast_core::{Error, memory};
use numpy::{PyArray1, PyReadonlyArray1, PyReadonlyArray2, PyUntypedArrayMethods};
use pyo3::prelude::*;

use crate::enter::enter;
use crate::error::to_python;
use crate::simd::level;

/// The states of some rows, to which tiles of logits are added in the order of the vocabulary.
#[pyclass(module = "metro_fast._core")]
pub(crate) struct Sweep {
    states: Vec<RowState>,
    targets: Vec<i64>,
    draw: Option<Drawing>,
}

/// The arguments of the draw, which outlive the call that gave them.
struct Drawing {
    key: Key,
    sample_ids: Vec<i64>,
    positions: Vec<i64>,
    temperature: f64,
    forbidden: Vec<i64>,
    exclude_targets: bool,
}

impl Drawing {
    fn sampling<'a>(&'a self, targets: &'a [i64]) -> Sampling<'a> {
        let excluded = self.exclude_targets.then_some(targets);
        Sampling {
            temperature: self.temperature,
            top_k: None,
            forbidden: &self.forbidden,
            excluded,
        }
    }

    fn of<'a>(&'a self, targets: &'a [i64]) -> metro_fast_core::Result<SweepDraw<'a>> {
        let rows = targets.len();
        let ids = SampleIds::new(Some(&self.sample_ids), rows)?;
        let draws = Draws::new(self.key, ids, Some(&self.positions), rows)?;
        Ok(SweepDraw { draws, sampling: self.sampling(targets) })
    }
}

/// Logsumexp, the target's logit, the sum of the logits, the likeliest and the drawn token.
type Found<'py> = (
    Bound<'py, PyArray1<f64>>,
    Bound<'py, PyArray1<f32>>,
    Bound<'py, PyArray1<f64>>,
    Bound<'py, PyArray1<i64>>,
    Bound<'py, PyArray1<i64>>,
);

#[pymethods]
impl Sweep {
    #[new]
    fn new(targets: PyReadonlyArray1<'_, i64>, vocabulary: usize) -> PyResult<Self> {
        let targets = memory::copied(targets.as_slice()?).map_err(to_python)?;
        let sampling = Sampling { excluded: Some(&targets), ..Sampling::default() };
        sampling.check(targets.len(), vocabulary).map_err(to_python)?;
        let states = memory::filled(targets.len(), RowState::default).map_err(to_python)?;
        Ok(Self { states, targets, draw: None })
    }

    /// Draws a token for each row too. `forbidden` is in ascending order.
    #[pyo3(signature = (sample_ids, positions, *, seed, epoch, temperature, forbidden, exclude_targets, vocabulary))]
    #[allow(clippy::too_many_arguments)]
    fn draw(
        &mut self,
        sample_ids: PyReadonlyArray1<'_, i64>,
        positions: PyReadonlyArray1<'_, i64>,
        seed: u64,
        epoch: u64,
        temperature: f64,
        forbidden: PyReadonlyArray1<'_, i64>,
        exclude_targets: bool,
        vocabulary: usize,
    ) -> PyResult<()> {
        let draw = Drawing {
            key: Key::new(seed, epoch, Stream::Replace),
            sample_ids: memory::copied(sample_ids.as_slice()?).map_err(to_python)?,
            positions: memory::copied(positions.as_slice()?).map_err(to_python)?,
            temperature,
            forbidden: memory::copied(forbidden.as_slice()?).map_err(to_python)?,
            exclude_targets,
        };
        draw.of(&self.targets)
            .and_then(|all| all.sampling.check(self.targets.len(), vocabulary))
            .map_err(to_python)?;
        self.draw = Some(draw);
        Ok(())
    }

    /// Adds a tile of logits, [rows, width], whose first token is `first`.
    fn add(
        &mut self,
        py: Python<'_>,
        logits: PyReadonlyArray2<'_, f32>,
        first: i64,
        num_threads: usize,
    ) -> PyResult<()> {
        let (width, level) = (logits.shape()[1], level()?);
        let logits = logits.as_slice()?;
        let Self { states, targets, draw, .. } = self;
        enter(py, || {
            let draw = draw.as_ref().map(|draw| draw.of(targets)).transpose()?;
            let tile = Tile { logits, width, first };
            sweep_tile(tile, targets, draw.as_ref(), level, num_threads, states)
        })
    }

    /// Returns what was found. `first_row` is the number of the first row in messages.
    fn finish<'py>(&self, py: Python<'py>, first_row: usize) -> PyResult<Found<'py>> {
        if self.draw.is_some()
            && let Some(row) = self.states.iter().position(|state| state.bad || state.drawn < 0)
        {
            let why = if self.states[row].bad { "NaN or inf" } else { "nothing but -inf" };
            return Err(to_python(Error::Shape(format!(
                "logits has {why} at row {}, expected finite numbers or -inf, and at least one finite number of a token that may be drawn",
                first_row + row
            ))));
        }
        let states = &self.states;
        Ok((
            PyArray1::from_iter(
                py,
                states.iter().map(|s| if s.bad { f64::NAN } else { s.mass.logsumexp() }),
            ),
            PyArray1::from_iter(py, states.iter().map(|state| state.target)),
            PyArray1::from_iter(py, states.iter().map(|state| state.total)),
            PyArray1::from_iter(py, states.iter().map(|state| state.best)),
            PyArray1::from_iter(py, states.iter().map(|state| state.drawn)),
        ))
    }
}
