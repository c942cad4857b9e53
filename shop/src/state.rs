//! What the shop's handlers share.

use std::sync::Arc;

use crate::database::Database;
use crate::payment::Payments;
use crate::rankings::Rankings;
use crate::recent::Recent;
use crate::variants::Variants;

pub struct Shop {
    pub database: Database,
    pub rankings: Rankings,
    pub recent: Recent,
    pub payments: Payments,
    pub variants: Arc<Variants>,
}
