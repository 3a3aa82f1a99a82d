/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "attest/attester.h"
#include "attest/binding.h"
#include "blockd/client.h"

/*
 * Evidence for a session with the broker. A worker of tdvol-blockd collects it, since only root may;
 * it computes the binding itself with its own sealing key, so that this process, which talks to the
 * network, cannot have a quote made over bytes of its choice.
 */

/*
 * sealing_key_sha256 of the binding is not read: it is that of sealing_public_key, to which the broker
 * is to seal. The worker compared the quote's REPORTDATA with the binding (attest/tsm.h), and sends an
 * event log only when it leads to the quote's registers; nothing of both is parsed here. Takes
 * seconds; deadline_ms on the scale of clock_now_ms(), 0: none. Errors are those of struct attester.
 */
MUST_USE bool workers_collect_evidence(const struct workers *blocks, const struct binding *binding,
                                       uint64_t deadline_ms, struct evidence *out,
                                       uint8_t sealing_public_key[static HPKE_PUBLIC_LEN],
                                       struct error *err);
