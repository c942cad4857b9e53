//! What visitors looked at and searched for last, for the suggestions on the front page.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;
use sqlx::FromRow;
use sqlx::sqlite::SqliteRow;

/// So many of each are kept.
const KEPT: usize = 10;

/// A product with its description.
#[derive(Clone, Serialize)]
pub struct Product {
    pub id: i64,
    pub name: String,
    pub price_cents: i64,
    pub description: String,
}

impl FromRow<'_, SqliteRow> for Product {
    fn from_row(row: &SqliteRow) -> sqlx::Result<Self> {
        let (id, name, price_cents, description) = FromRow::from_row(row)?;
        Ok(Self {
            id,
            name,
            price_cents,
            description,
        })
    }
}

#[derive(Default)]
pub struct Recent {
    views: Mutex<VecDeque<Product>>,
    terms: Mutex<VecDeque<(String, Vec<Product>)>>,
}

impl Recent {
    /// Keeps a product that was looked at. Without `all`, the oldest are forgotten.
    #[inline(never)] // a profile of the release build names it
    pub fn remember_view(&self, product: &Product, all: bool) {
        let mut views = self.views.lock().unwrap_or_else(PoisonError::into_inner);
        views.push_back(product.clone());
        forget(&mut views, all);
    }

    /// Keeps a search with what was found.
    #[inline(never)] // a profile of the release build names it
    pub fn remember_term(&self, term: &str, found: &[Product], all: bool) {
        let mut terms = self.terms.lock().unwrap_or_else(PoisonError::into_inner);
        terms.push_back((term.to_owned(), found.to_vec()));
        forget(&mut terms, all);
    }
}

fn forget<T>(kept: &mut VecDeque<T>, all: bool) {
    while !all && kept.len() > KEPT {
        kept.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_are_forgotten_first() {
        let mut kept: VecDeque<usize> = (0..KEPT + 2).collect();
        forget(&mut kept, true);
        assert_eq!(kept.len(), KEPT + 2);
        forget(&mut kept, false);
        assert_eq!((kept.len(), kept.front()), (KEPT, Some(&2)));
    }
}
