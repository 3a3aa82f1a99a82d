/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "record/record.h"

/*
 * What a record may contain. The broker checks what callers send and what its store holds. The
 * plugin and the worker check the broker's answers before they act on them. An error is
 * INVALID_ARGUMENT and names the field. The one exception is an unknown layout version: it is
 * FAILED_PRECONDITION. A caller that got the record from a trusted side (its own store, the broker)
 * replaces the code.
 */
MUST_USE bool volume_spec_check(const struct volume_spec *spec, struct error *err);

MUST_USE bool record_check(const struct record *record, struct error *err);

/*
 * Whether later may be what became of first during one operation of a node: the same record and
 * key, with the same spec, and not older. INTERNAL names what differs. Both passed record_check().
 */
MUST_USE bool record_continues(const struct record *first, const struct record *later,
                               struct error *err);
