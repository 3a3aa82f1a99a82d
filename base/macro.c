/* SPDX-License-Identifier: Apache-2.0 */
#include "base/macro.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void free_at(void *pointer_to_pointer)
{
    /* memcpy, because the slot's type is not void *. */
    void *pointer = NULL;
    void *const empty = NULL;
    int saved_errno = errno;

    memcpy(&pointer, pointer_to_pointer, sizeof(pointer));
    memcpy(pointer_to_pointer, &empty, sizeof(empty));
    free(pointer);
    errno = saved_errno;
}

void close_at(int *fd)
{
    int saved_errno = errno;

    if (*fd >= 0)
        (void)close(*fd);
    *fd = -1;
    errno = saved_errno;
}

char *text_of_bytes(const void *bytes, size_t len)
{
    char *text = malloc(len + 1);

    if (!text)
        return NULL;
    if (len > 0)
        memcpy(text, bytes, len);
    text[len] = '\0';
    return text;
}
