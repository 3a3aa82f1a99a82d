/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "record/record.h"

/* A READY record in which every field has a value of its own; record_check() likes it. */
struct record sample_record(void);
