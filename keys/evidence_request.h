/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "attest/attester.h"
#include "attest/binding.h"
#include "blockd/client.h"
#include "keys/broker_client.h"

/*
 * Evidence for a session with the broker. A worker of tdvol-blockd collects it, because only root
 * may. The worker computes the binding itself, with its own sealing key. So this process, which
 * talks to the network, cannot get a quote over bytes of its choice.
 */

/*
 * Does not read sealing_key_sha256 of the binding: the hash of sealing_public_key stands in for it,
 * and the broker seals to that key. The worker has compared the quote's REPORTDATA with the binding
 * (attest/tsm.h), and sends an event log only when it leads to the quote's registers. This function
 * parses neither of them. With --broker-policy the worker first demands the evidence of the broker at
 * the end of the route, which may be NULL otherwise. Takes seconds. deadline_ms is on the scale of clock_now_ms(); 0: none.
 * Errors are those of struct attester, and
 * UNAVAILABLE with the reason BrokerEvidence.
 */
MUST_USE bool workers_collect_evidence(const struct workers *blocks,
                                       const struct broker_route *route,
                                       const struct binding *binding, uint64_t deadline_ms,
                                       struct evidence *out,
                                       uint8_t sealing_public_key[static HPKE_PUBLIC_LEN],
                                       struct error *err);
