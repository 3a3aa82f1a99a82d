/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "attest/collateral_set.h"
#include "broker/store.h"

/*
 * What collateral was accepted before, by numbers that only grow: older collateral is signed just as
 * well, but does not know of later recoveries and revocations. Kept in the store, for each trusted root
 * apart.
 */

/* DENIED CollateralRolledBack or CrlRolledBack when a number is lower than one accepted before. */
MUST_USE bool collateral_marks_check(struct store *store, const struct trust_root *root,
                                     const struct collateral *c, enum pck_ca ca, struct error *err);
/* Puts the numbers of what was accepted on record. */
MUST_USE bool collateral_marks_raise(struct store *store, const struct trust_root *root,
                                     const struct collateral *c, enum pck_ca ca, struct error *err);
