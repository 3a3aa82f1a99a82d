/* SPDX-License-Identifier: Apache-2.0 */
#include "csi/stacked.h"

#include <string.h>

/* A code without a row says nothing: the other side may still be at work. */
static const unsigned decisions[ERROR_CODE_COUNT] = {
    [ERROR_INVALID_ARGUMENT] =
        DECIDED_NOT_ATTACHED | DECIDED_NOWHERE | DECIDED_NOT_DELETED | DECIDED_NO_RECORD,
    [ERROR_NOT_FOUND] = DECIDED_NOT_ATTACHED | DECIDED_NOWHERE | DECIDED_NO_RECORD,
    [ERROR_FAILED_PRECONDITION] = DECIDED_NOT_ATTACHED | DECIDED_NOT_DELETED | DECIDED_NO_RECORD,
    [ERROR_DENIED] = DECIDED_NOT_ATTACHED | DECIDED_NO_RECORD,
    [ERROR_RESOURCE_EXHAUSTED] = DECIDED_NOT_ATTACHED, /* CSI: the node has all that it can have */
    [ERROR_UNAUTHENTICATED] = DECIDED_NOT_ATTACHED,
    [ERROR_UNIMPLEMENTED] = DECIDED_NOT_ATTACHED,
    [ERROR_ABORTED] = DECIDED_NO_RECORD /* the source changed while it was copied */
                      | DECIDED_TO_REPEAT,
    [ERROR_OUT_OF_RANGE] = DECIDED_NO_RECORD,
    [ERROR_UNAVAILABLE] = DECIDED_TO_REPEAT,
    [ERROR_DEADLINE_EXCEEDED] = DECIDED_TO_REPEAT,
    [ERROR_CANCELLED] = DECIDED_TO_REPEAT,
};

bool stacked_has_decided(const struct error *err, enum stacked_decision what)
{
    /* RESOURCE_EXHAUSTED without this word is a flood of calls, or a full store: nobody knows what was
     * done. */
    if (what == DECIDED_NO_RECORD && strcmp(err->reason, RECORD_LIMIT_REASON) == 0)
        return true;
    return (decisions[err->code] & what) != 0;
}
