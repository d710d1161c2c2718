// SPDX-License-Identifier: GPL-2.0

//! A disk that is reinstated by a person's word (`host_tests::reinstated`).

use crate::ddf_common::Of;
use host_tests::reinstated;

#[test]
fn what_it_holds_counts_in_volumes_without_redundancy() {
    reinstated::it_counts_where_nothing_else_does::<Of>();
}

#[test]
fn what_was_not_lost_is_not_reinstated() {
    reinstated::only_what_was_lost::<Of>();
}
