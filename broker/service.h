/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "proto/dispatch.h"

extern const struct rpc_service broker_service; /* of a struct broker */
