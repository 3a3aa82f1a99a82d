/* SPDX-License-Identifier: Apache-2.0 */
#include "attest/collateral_set.h"

void collateral_set_free(struct collateral_set *set)
{
    arena_wipe(&set->memory);
}
