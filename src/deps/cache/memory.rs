//! The cache in the process: bounded in entries and in time.

use moka::future::Cache;

use crate::deps::database::Product;
use crate::{instruments, settings};

#[derive(Clone)]
pub struct Memory(Cache<String, Product>);

impl Memory {
    pub fn new(settings: &settings::Cache) -> Self {
        let cache = Cache::builder()
            .max_capacity(settings.entries)
            .time_to_live(settings.ttl)
            .build();
        let observed = cache.clone();
        instruments::observe_cache_entries(move || observed.entry_count());
        Self(cache)
    }

    pub async fn get(&self, sku: &str) -> Option<Product> {
        self.0.get(sku).await
    }

    pub async fn set(&self, product: &Product) {
        self.0.insert(product.sku.clone(), product.clone()).await;
    }
}
