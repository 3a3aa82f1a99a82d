/* SPDX-License-Identifier: Apache-2.0 */
#include "collateral/collateral_marks.h"

#include "attest/reason.h"
#include "base/digest.h"

#include <inttypes.h>
#include <stdio.h>

#define ROOT_PREFIX_LEN 4 /* bytes of the root's hash, enough to tell roots apart */

struct collateral_mark {
    char name[80];
    const char *what;
    uint64_t value;
    enum attest_reason reason;
};
enum { MARK_COUNT = 3 };

static void marks_of(const struct trust_root *root, const struct collateral *c, enum pck_ca ca,
                     struct collateral_mark out[static MARK_COUNT])
{
    char root_hex[2 * ROOT_PREFIX_LEN + 1], fmspc[2 * FMSPC_LEN + 1];

    hex_encode(root->sha256, ROOT_PREFIX_LEN, root_hex);
    hex_encode(c->tcb.fmspc, FMSPC_LEN, fmspc);
    out[0] = (struct collateral_mark){ .what = "the TCB evaluation number",
                                       .value = c->tcb.evaluation_number,
                                       .reason = REASON_COLLATERAL_ROLLED_BACK };
    out[1] = (struct collateral_mark){ .what = "the number of the root's revocation list",
                                       .value = c->root_crl_number,
                                       .reason = REASON_CRL_ROLLED_BACK };
    out[2] = (struct collateral_mark){ .what = "the number of the PCK revocation list",
                                       .value = c->pck_crl_number,
                                       .reason = REASON_CRL_ROLLED_BACK };
    (void)snprintf(out[0].name, sizeof(out[0].name), "%s evaluation %s", root_hex, fmspc);
    (void)snprintf(out[1].name, sizeof(out[1].name), "%s crl root", root_hex);
    (void)snprintf(out[2].name, sizeof(out[2].name), "%s crl %s", root_hex, pck_ca_name(ca));
}

bool collateral_marks_check(struct store *store, const struct trust_root *root,
                            const struct collateral *c, enum pck_ca ca, struct error *err)
{
    struct collateral_mark marks[MARK_COUNT];
    uint64_t highest = 0;

    marks_of(root, c, ca, marks);
    for (size_t i = 0; i < MARK_COUNT; i++) {
        if (!store->ops->raise(store, marks[i].name, 0, &highest, err))
            return false;
        if (marks[i].value < highest)
            return attest_refuse(err, marks[i].reason,
                                 "%s is %" PRIu64 ", but %" PRIu64 " was accepted before",
                                 marks[i].what, marks[i].value, highest);
    }
    return true;
}

bool collateral_marks_raise(struct store *store, const struct trust_root *root,
                            const struct collateral *c, enum pck_ca ca, struct error *err)
{
    struct collateral_mark marks[MARK_COUNT];
    uint64_t highest = 0;

    marks_of(root, c, ca, marks);
    for (size_t i = 0; i < MARK_COUNT; i++)
        if (!store->ops->raise(store, marks[i].name, marks[i].value, &highest, err))
            return false;
    return true;
}
