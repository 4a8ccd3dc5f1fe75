{# Integer division; both sides are integers or DECIMAL(38, 0) and not negative. #}
{% macro quotient(dividend, divisor) -%}
    {{ return(adapter.dispatch('quotient', 'tallystick')(dividend, divisor)) }}
{%- endmacro %}

{% macro default__quotient(dividend, divisor) -%}
    cast(({{ dividend }}) div ({{ divisor }}) as decimal(38, 0))
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
