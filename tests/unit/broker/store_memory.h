/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "store/store.h"

/* A store without a disk: nothing is durable. */
MUST_USE bool store_memory_open(struct store **out, struct error *err);
