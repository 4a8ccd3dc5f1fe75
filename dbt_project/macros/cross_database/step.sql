{# A CTE that later ones read more than once, in a chain of many. DuckDB keeps its rows. Spark would
   work it out anew for each reader: a chain of twelve steps that are each read thrice, half a million
   times. There it is a view of the session, or a table where its rows are to be kept; so no two models
   may have steps of one name. #}
{% macro step(name, keep=false) -%}
    {{ return(adapter.dispatch('step', 'tallystick')(name, keep, caller())) }}
{%- endmacro %}

{% macro default__step(name, keep, query) -%}
    {{ name }} as ({{ query }})
{%- endmacro %}

{% macro spark__step(name, keep, query) -%}
    {%- set kept = this.schema ~ '.' ~ this.identifier ~ '__' ~ name -%}
    {%- if execute and flags.WHICH in ('run', 'build') -%}
        {%- if keep -%}
            {%- do run_query('create or replace table ' ~ kept ~ ' using iceberg as ' ~ query) -%}
        {%- endif -%}
        {%- do run_query(
            'create or replace temporary view ' ~ name ~ ' as '
            ~ ('select * from ' ~ kept if keep else query)
        ) -%}
    {%- endif -%}
    {{ name }} as (select * from {{ name }})
{%- endmacro %}
