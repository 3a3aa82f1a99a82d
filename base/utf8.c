/* SPDX-License-Identifier: Apache-2.0 */
#include "base/utf8.h"

size_t utf8_next(const uint8_t *text, size_t len, uint32_t *out)
{
    static const struct {
        uint8_t mask, lead; /* which bits of the first byte tell the length */
        uint32_t least;     /* a smaller number has a shorter form */
    } forms[] = {
        { 0x80, 0x00, 0 },
        { 0xE0, 0xC0, 0x80 },
        { 0xF0, 0xE0, 0x800 },
        { 0xF8, 0xF0, 0x10000 },
    };
    size_t n = 0;

    while (n < ARRAY_LEN(forms) && (text[0] & forms[n].mask) != forms[n].lead)
        n++;
    if (n == ARRAY_LEN(forms) || n >= len)
        return 0;

    uint32_t character = (uint8_t)(text[0] & ~forms[n].mask);
    for (size_t i = 1; i <= n; i++) {
        if ((text[i] & 0xC0) != 0x80)
            return 0;
        character = character << 6 | (text[i] & 0x3Fu);
    }
    bool is_surrogate = character >= 0xD800 && character <= 0xDFFF;
    if (character < forms[n].least || character > 0x10FFFF || is_surrogate)
        return 0;
    *out = character;
    return n + 1;
}

bool utf8_is_control(uint32_t character)
{
    if (character == '\t' || character == '\n' || character == '\r')
        return false;
    return character < 0x20 || (character >= 0x7F && character <= 0x9F);
}
