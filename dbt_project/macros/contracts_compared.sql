{# A process that builds again and again compares what its models give with their contracts, and with
   the tables that stand, until it has done so for increments; the same SQL over the same types gives
   the same columns from then on, and to ask once more takes more than a quarter of a small run's time. Whoever
   sets the variable says that nothing of it is another than it was: `pipelines.warehouse.dbt`. #}
{% macro duckdb__get_assert_columns_equivalent(sql) -%}
    {%- if not var('contracts_compared') -%}
        {{- default__get_assert_columns_equivalent(sql) -}}
    {%- endif -%}
{%- endmacro %}

{% macro duckdb__process_schema_changes(on_schema_change, source_relation, target_relation) -%}
    {%- if var('contracts_compared') -%}
        {{ return({}) }}
    {%- endif -%}
    {{ return(default__process_schema_changes(on_schema_change, source_relation, target_relation)) }}
{%- endmacro %}
