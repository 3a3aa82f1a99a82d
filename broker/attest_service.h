/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "attest/event_log.h"
#include "attest/quote.h"
#include "policy/owner_certificate.h"
#include "policy/token.h"
#include "proto/dispatch.h"

/*
 * The two calls by which a client proves what it is, before the policy judges it. Every client with
 * a TLS key may call them. So each address has a rate limit, only a few quotes are verified at the
 * same time, and the most expensive step comes last.
 */
#define ATTEST_MESSAGE_MAX \
    ((size_t)EVENT_LOG_LEN_MAX + QUOTE_LEN_MAX + TOKEN_LEN_MAX + OWNER_CHAIN_LEN_MAX + 4096)

struct broker;

/* SHA-256 of the key in the broker's certificate that this client's connection has seen. */
const uint8_t *attest_own_key(const struct broker *broker, const struct rpc_call *call);

rpc_handler attest_get_challenge; /* of a struct broker */
rpc_handler attest_run;
