{# Whether a query gives no row, asked when the model that wants to know is compiled. #}
{% macro is_empty(query) -%}
    {{ return(not execute or run_query('select 1 from (' ~ query ~ ') as asked limit 1').rows | length == 0) }}
{%- endmacro %}
