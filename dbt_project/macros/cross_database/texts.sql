{# The texts of a group, joined by ", " in order. #}
{% macro joined_texts(text) -%}
    {{ return(adapter.dispatch('joined_texts', 'tallystick')(text)) }}
{%- endmacro %}

{% macro default__joined_texts(text) -%}
    concat_ws(', ', sort_array(collect_list({{ text }})))
{%- endmacro %}

{% macro duckdb__joined_texts(text) -%}
    string_agg({{ text }}, ', ' order by {{ text }})
{%- endmacro %}

{# Any value as text. #}
{% macro as_text(value) -%}
    cast({{ value }} as {{ dbt.type_string() }})
{%- endmacro %}
