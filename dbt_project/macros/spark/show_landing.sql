{# Show the typed landing to this Spark session: of each table its columns and the files that the
   landing's manifest names, as one pattern; no pattern where nothing has landed. #}
{% macro show_landing(tables) %}
    {% do run_query('create schema if not exists spark_catalog.landing') %}
    {% for name, table in tables.items() %}
        {% do run_query('drop table if exists spark_catalog.landing.' ~ name) %}
        {% do run_query(
            'create table spark_catalog.landing.' ~ name ~ ' (' ~ table['columns'] ~ ') using parquet'
            ~ (" location '" ~ table['files'] ~ "'" if table['files'] else '')
        ) %}
    {% endfor %}
{% endmacro %}
