{# An amount as something whose sum does not overflow: DuckDB widens sums by itself. #}
{% macro wide(amount) -%}
    {{ return(adapter.dispatch('wide', 'tallystick')(amount)) }}
{%- endmacro %}

{% macro default__wide(amount) -%}
    cast({{ amount }} as decimal(38, 0))
{%- endmacro %}

{% macro duckdb__wide(amount) -%}
    {{ amount }}
{%- endmacro %}

{# Integer division; both sides are integers or DECIMAL(38, 0) and not negative. #}
{% macro quotient(dividend, divisor) -%}
    {{ return(adapter.dispatch('quotient', 'tallystick')(dividend, divisor)) }}
{%- endmacro %}

{# `div` would give a BIGINT; what is divided here leaves no rest, so no digit is rounded. #}
{% macro default__quotient(dividend, divisor) -%}
    {%- set whole = 'cast(' ~ dividend ~ ' as decimal(38, 0))' -%}
    {%- set parts = 'cast(' ~ divisor ~ ' as decimal(38, 0))' -%}
    cast(({{ whole }} - {{ whole }} % {{ parts }}) / {{ parts }} as decimal(38, 0))
{%- endmacro %}

{% macro duckdb__quotient(dividend, divisor) -%}
    cast(cast({{ dividend }} as hugeint) // cast({{ divisor }} as hugeint) as decimal(38, 0))
{%- endmacro %}

{# Digits in groups of three: 1234567 gives "1,234,567". #}
{% macro grouped_digits(number) -%}
    {{ return(adapter.dispatch('grouped_digits', 'tallystick')(number)) }}
{%- endmacro %}

{% macro default__grouped_digits(number) -%}
    format_number({{ number }}, 0)
{%- endmacro %}

{% macro duckdb__grouped_digits(number) -%}
    format('{:,}', cast({{ number }} as hugeint))
{%- endmacro %}
