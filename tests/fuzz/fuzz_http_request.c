/* SPDX-License-Identifier: Apache-2.0 */
#include "base/http_request.h"
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>

/* The path of a request lies in its bytes. A request whose beginning is whole or bad stays so,
 * whatever follows. */
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    const char *text = (const char *)bytes;
    struct http_request whole, part;
    enum http_head head = http_request_parse(text, len, &whole);

    if (head == HTTP_HEAD_WHOLE &&
        (whole.path < text || whole.path_len == 0 || whole.path[0] != '/' ||
         whole.path + whole.path_len > text + len))
        abort();
    for (size_t n = 0; n < len && len < 512; n++) {
        enum http_head early = http_request_parse(text, n, &part);

        if (early != HTTP_HEAD_INCOMPLETE && early != head)
            abort();
        if (early == HTTP_HEAD_WHOLE &&
            (part.path != whole.path || part.path_len != whole.path_len ||
             part.is_get != whole.is_get))
            abort();
    }
    return 0;
}
