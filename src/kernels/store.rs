//! What a product is added to.

use super::matrix::MatMut;
use super::real::Real;

/// Says what a product is added to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Store<'a, R> {
    /// C = A B.
    Overwrite,
    /// C += A B.
    Add,
    /// C = A B with this row (n) added to every row.
    Bias(&'a [R]),
}

/// Checks the bias, and says whether C is done: it is where it has no values, or where there are none to add.
pub(super) fn fill_with_start<R: Real>(c: &mut MatMut<'_, R>, store: Store<'_, R>, k: usize) -> bool {
    let (m, n) = c.shape();
    if m == 0 || n == 0 {
        return true;
    }
    if let Store::Bias(row) = store {
        assert_eq!(row.len(), n, "a bias for every column");
    }
    if k == 0 {
        for row in 0..m {
            match store {
                Store::Overwrite => c.row(row).fill(R::ZERO),
                Store::Add => {}
                Store::Bias(bias) => c.row(row).copy_from_slice(bias),
            }
        }
    }
    k == 0
}
