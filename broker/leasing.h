/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "broker/judged_call.h"

/* Who has a volume, for how long, and who gets it next: what the handlers of broker/leasing.c (see
 * broker/handlers.h) and of other files have in common. */

/* The node and boot that the call names. */
MUST_USE bool leasing_holder(const struct judged_call *s, struct record_holder *out,
                             struct error *err);

/* How long the policy lets a lease of the record's tenant be good; 0: for ever. */
uint64_t leasing_ms(const struct judged_call *s, const struct record *r);

/* How long the mark of a contest must have been seen until the lease is over: what the holder has, and a
 * margin, because clocks do not run equally fast, and a machine takes its time to suspend a volume. */
uint64_t leasing_wait_ms(uint64_t lease_ms);

/* Whether the lease is contested and its holder has been silent for long enough, as far as this broker can
 * tell (broker/sightings.h). r was read from the store just now; the first call for a mark starts its time. */
bool leasing_is_silent(const struct judged_call *s, const struct record *r);

/* judged_call_change(), for a change that a lease may stand in the way of. When it fails with
 * LEASE_HELD_REASON, the record says so: from then on a holder that is silent loses the lease. */
MUST_USE bool leasing_change(struct judged_call *s, struct call_change *change,
                             const struct record **out, struct error *err);
