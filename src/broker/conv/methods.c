/* SPDX-License-Identifier: Apache-2.0 */
/* The table of methods.def as constant data. */
#include "broker/conv/methods.h"

#define F_NONE
#define F(name, kind, required) { #name, FK_##kind, (required) != 0 },
/* one array a method; a last empty row keeps methods without fields legal C */
#define M(name, what, fields) static const struct method_field fields_##name[] = { \
	fields { NULL, FK_IGN, false } };
#include "broker/conv/methods.def"
#undef M

const struct method methods[] = {
#define M(name, what, fields) { #name, DO_##what, fields_##name, CL_ARRAY_LEN(fields_##name) - 1 },
#include "broker/conv/methods.def"
#undef M
};
const size_t nmethods = CL_ARRAY_LEN(methods);

const struct method *method_find(struct span name)
{
	for (size_t i = 0; i < nmethods; i++)
		if (span_eq_nocase(name, span_str(methods[i].name)))
			return &methods[i];
	return NULL;
}

const struct method_field *method_field(const struct method *m, struct span name)
{
	for (size_t i = 0; i < m->nfields; i++)
		if (span_eq_str(name, m->fields[i].name))
			return &m->fields[i];
	return NULL;
}
