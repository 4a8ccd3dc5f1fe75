{# Whole days since 1970-01-01, so that windows of days are windows over integers. #}
{% macro day_number(date) -%}
    {{ return(adapter.dispatch('day_number', 'tallystick')(date)) }}
{%- endmacro %}

{% macro default__day_number(date) -%}
    cast(datediff({{ date }}, cast('1970-01-01' as date)) as bigint)
{%- endmacro %}

{% macro duckdb__day_number(date) -%}
    datediff('day', cast('1970-01-01' as date), {{ date }})
{%- endmacro %}

{# The date that many days later. #}
{% macro add_days(date, days) -%}
    {{ return(adapter.dispatch('add_days', 'tallystick')(date, days)) }}
{%- endmacro %}

{% macro default__add_days(date, days) -%}
    date_add({{ date }}, cast({{ days }} as integer))
{%- endmacro %}

{% macro duckdb__add_days(date, days) -%}
    cast({{ date }} + cast({{ days }} as integer) as date)
{%- endmacro %}

{# Microseconds since 1970 of a UTC timestamp. #}
{% macro microseconds(moment) -%}
    {{ return(adapter.dispatch('microseconds', 'tallystick')(moment)) }}
{%- endmacro %}

{% macro default__microseconds(moment) -%}
    unix_micros(cast({{ moment }} as timestamp_ltz))
{%- endmacro %}

{% macro duckdb__microseconds(moment) -%}
    epoch_us({{ moment }})
{%- endmacro %}

{# The day of the week, Monday 1 to Sunday 7. #}
{% macro iso_weekday(date) -%}
    {{ return(adapter.dispatch('iso_weekday', 'tallystick')(date)) }}
{%- endmacro %}

{% macro default__iso_weekday(date) -%}
    weekday({{ date }}) + 1
{%- endmacro %}

{% macro duckdb__iso_weekday(date) -%}
    isodow({{ date }})
{%- endmacro %}

{# The first day of a date's month. #}
{% macro month_start(date) -%}
    {{ return(adapter.dispatch('month_start', 'tallystick')(date)) }}
{%- endmacro %}

{% macro default__month_start(date) -%}
    cast(date_trunc('month', {{ date }}) as date)
{%- endmacro %}

{# Every day from the first up to, not including, the one past the last, as `date_day`. #}
{% macro every_day(first, past) -%}
    {{ return(adapter.dispatch('every_day', 'tallystick')(first, past)) }}
{%- endmacro %}

{% macro default__every_day(first, past) -%}
    select explode(sequence(cast('{{ first }}' as date), cast('{{ past }}' as date) - 1)) as date_day
{%- endmacro %}

{% macro duckdb__every_day(first, past) -%}
    {{ dbt.date_spine('day', "cast('" ~ first ~ "' as date)", "cast('" ~ past ~ "' as date)") }}
{%- endmacro %}
