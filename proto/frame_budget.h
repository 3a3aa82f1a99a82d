/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/*
 * How many frames a connection may send that cost us work and the client nothing: PING, SETTINGS,
 * PRIORITY, WINDOW_UPDATE, empty DATA, CONTINUATION, unknown ones (RFC 9113, section 10.5), and how
 * many streams may end before they were answered. Both flow in slowly, up to a limit. Honest
 * requests bring some of the first.
 */
#define FRAME_BUDGET_CONTROL       2000 /* at once */
#define FRAME_BUDGET_CONTROL_EACH  8    /* for each request */
#define FRAME_BUDGET_CONTROL_PER_S 100
#define FRAME_BUDGET_RESETS        300
#define FRAME_BUDGET_RESETS_PER_S  40

struct frame_budget {
    uint64_t control, resets; /* in thousandths */
    uint64_t filled_ms;
};

void frame_budget_init(struct frame_budget *budget, uint64_t now_ms);
void frame_budget_earn(struct frame_budget *budget); /* a request has come */
/* False: the client has no more of them, and its connection should end. */
bool frame_budget_take_control(struct frame_budget *budget, uint64_t now_ms);
bool frame_budget_take_reset(struct frame_budget *budget, uint64_t now_ms);
