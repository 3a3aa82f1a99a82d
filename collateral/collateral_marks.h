/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "attest/collateral_set.h"
#include "store/store.h"

/*
 * The marks: the highest numbers of the collateral accepted so far. Older collateral has a good
 * signature, too, but lacks later TCB recoveries and revocations; the marks show that it is older.
 * They are kept in the store, separately for each trusted root.
 */

/* DENIED CollateralRolledBack or CrlRolledBack when a number is lower than its mark. */
MUST_USE bool collateral_marks_check(struct store *store, const struct trust_root *root,
                                     const struct collateral *c, enum pck_ca ca, struct error *err);
/* Raises the marks to the numbers of accepted collateral. */
MUST_USE bool collateral_marks_raise(struct store *store, const struct trust_root *root,
                                     const struct collateral *c, enum pck_ca ca, struct error *err);
