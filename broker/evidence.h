/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "proto/dispatch.h"

/* GetEvidence: what runs as this broker. Nobody is judged: who asks may not be known yet, and learns
 * nothing that is a secret. service is a struct broker. */
rpc_handler evidence_get;
