//! Views of numpy arrays that are borrowed for one call.

use metro_fast_core::Result;
use metro_fast_core::tokens::{Rows, Token};
use numpy::ndarray::Dimension;
use numpy::{
    Element, PyArray, PyArray1, PyArray2, PyArrayDyn, PyArrayMethods, PyReadonlyArray1,
    PyReadonlyArrayDyn, PyUntypedArray, PyUntypedArrayMethods,
};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

/// A one- or two-dimensional array of token ids of one of the four types.
pub(crate) enum Ids<'py> {
    U16(PyReadonlyArrayDyn<'py, u16>),
    U32(PyReadonlyArrayDyn<'py, u32>),
    I32(PyReadonlyArrayDyn<'py, i32>),
    I64(PyReadonlyArrayDyn<'py, i64>),
}

impl<'py> Ids<'py> {
    pub(crate) fn borrow(array: &Bound<'py, PyAny>) -> PyResult<Self> {
        if let Some(view) = view::<u16>(array)? {
            Ok(Self::U16(view))
        } else if let Some(view) = view::<u32>(array)? {
            Ok(Self::U32(view))
        } else if let Some(view) = view::<i32>(array)? {
            Ok(Self::I32(view))
        } else if let Some(view) = view::<i64>(array)? {
            Ok(Self::I64(view))
        } else {
            Err(wrong_type("ids", array, "uint16, uint32, int32 or int64"))
        }
    }
}

/// Evaluates an expression with `$view` bound to the borrowed array, for each type that the ids may
/// have.
macro_rules! with_ids {
    ($ids:expr, $view:ident => $body:expr) => {
        match $ids {
            $crate::arrays::Ids::U16($view) => $body,
            $crate::arrays::Ids::U32($view) => $body,
            $crate::arrays::Ids::I32($view) => $body,
            $crate::arrays::Ids::I64($view) => $body,
        }
    };
}
pub(crate) use with_ids;

/// Borrows the array if its elements are of type `T`; otherwise returns `None`.
pub(crate) fn view<'py, T: Element>(
    array: &Bound<'py, PyAny>,
) -> PyResult<Option<PyReadonlyArrayDyn<'py, T>>> {
    match array.cast::<PyArrayDyn<T>>() {
        Ok(array) => {
            Ok(Some(array.try_readonly().map_err(|e| PyTypeError::new_err(e.to_string()))?))
        }
        Err(_) => Ok(None),
    }
}

/// Makes the exception for an array of a type that no kernel accepts.
pub(crate) fn wrong_type(name: &str, array: &Bound<'_, PyAny>, expected: &str) -> PyErr {
    let found = match array.cast::<PyUntypedArray>() {
        Ok(array) => format!("an array of {}", array.dtype()),
        Err(_) => format!("a {}", array.get_type()),
    };
    PyTypeError::new_err(format!("{name} is {found}, expected {expected}"))
}

/// Returns the rows of an array that is two-dimensional, or flat with offsets.
pub(crate) fn rows<'a, T: Token>(
    ids: &'a [T],
    shape: &[usize],
    offsets: Option<&'a [i64]>,
) -> Result<Rows<'a, T>> {
    match (shape, offsets) {
        ([_], Some(offsets)) => Rows::ragged(ids, offsets),
        ([count, length], None) => Rows::equal(ids, *count, *length),
        _ => Err(metro_fast_core::Error::Shape(format!(
            "ids has {} dimensions, expected 2, or 1 together with offsets",
            shape.len()
        ))),
    }
}

/// Borrows the elements of an optional one-dimensional argument.
pub(crate) fn slice<'a>(
    array: Option<&'a PyReadonlyArray1<'_, i64>>,
) -> PyResult<Option<&'a [i64]>> {
    Ok(array.map(PyReadonlyArray1::as_slice).transpose()?)
}

/// Returns the caller's array, or a new one of `rows` by `width`.
pub(crate) fn given_or<'py, O: Element>(
    py: Python<'py>,
    given: Option<Bound<'py, PyAny>>,
    rows: usize,
    width: usize,
) -> PyResult<Bound<'py, PyArray2<O>>> {
    let Some(array) = given else { return new(py, "empty", [rows, width]) };
    let array = array
        .cast_into::<PyArray2<O>>()
        .map_err(|error| PyTypeError::new_err(format!("out: {error}")))?;
    if array.dims()[0] != rows {
        let message = format!("out has {} rows, expected {rows}", array.dims()[0]);
        return Err(crate::error::MetroFastError::new_err(message));
    }
    Ok(array)
}

/// Makes a new array with one number for each row.
pub(crate) fn per_row(py: Python<'_>, rows: usize) -> PyResult<Bound<'_, PyArray1<i64>>> {
    zeros(py, [rows])
}

/// Makes a new array of zeros.
pub(crate) fn zeros<T: Element, D: Dimension, const N: usize>(
    py: Python<'_>,
    shape: [usize; N],
) -> PyResult<Bound<'_, PyArray<T, D>>> {
    new(py, "zeros", shape)
}

/// Makes a new array with numpy itself, which raises `MemoryError` if memory is short, whereas
/// `PyArray::zeros` panics. A batch that is written completely starts "empty": writing zeros first
/// would take a third of the time of the kernel.
fn new<'py, T: Element, D: Dimension, const N: usize>(
    py: Python<'py>,
    how: &str,
    shape: [usize; N],
) -> PyResult<Bound<'py, PyArray<T, D>>> {
    let shape = PyTuple::new(py, shape)?;
    let array = py.import("numpy")?.getattr(how)?.call1((shape, T::get_dtype(py)))?;
    Ok(array.cast_into()?)
}
