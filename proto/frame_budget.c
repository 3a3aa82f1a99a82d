/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/frame_budget.h"

#define ONE 1000u /* per second is also per millisecond and thousandth */

static uint64_t add(uint64_t level, uint64_t more, uint64_t limit)
{
    return level + more < limit ? level + more : limit;
}

void frame_budget_init(struct frame_budget *budget, uint64_t now_ms)
{
    *budget = (struct frame_budget){ .control = FRAME_BUDGET_CONTROL * ONE,
                                     .resets = FRAME_BUDGET_RESETS * ONE,
                                     .filled_ms = now_ms };
}

static void fill(struct frame_budget *budget, uint64_t now_ms)
{
    uint64_t ms = now_ms - budget->filled_ms;

    budget->filled_ms = now_ms;
    budget->control =
        add(budget->control, ms * FRAME_BUDGET_CONTROL_PER_S, FRAME_BUDGET_CONTROL * ONE);
    budget->resets = add(budget->resets, ms * FRAME_BUDGET_RESETS_PER_S, FRAME_BUDGET_RESETS * ONE);
}

void frame_budget_earn(struct frame_budget *budget)
{
    budget->control =
        add(budget->control, FRAME_BUDGET_CONTROL_EACH * ONE, FRAME_BUDGET_CONTROL * ONE);
}

static bool take(uint64_t *level)
{
    if (*level < ONE)
        return false;
    *level -= ONE;
    return true;
}

bool frame_budget_take_control(struct frame_budget *budget, uint64_t now_ms)
{
    fill(budget, now_ms);
    return take(&budget->control);
}

bool frame_budget_take_reset(struct frame_budget *budget, uint64_t now_ms)
{
    fill(budget, now_ms);
    return take(&budget->resets);
}
