{# The rows of a seed. Where dbt has a Spark session, its adapter writes a NULL as the text 'None' and
   an apostrophe as it is. Each seed names the type of each of its columns. #}
{% macro spark__load_csv_rows(model, agate_table) %}
    {% set types = model['config']['column_types'] %}
    {% set rows = [] %}
    {% for row in agate_table.rows %}
        {% set values = [] %}
        {% for name in agate_table.column_names %}
            {% set text = "'" ~ (row[name] | string | replace("'", "\\'")) ~ "'" %}
            {% do values.append(
                'cast(' ~ ('null' if row[name] is none else text) ~ ' as ' ~ types[name] ~ ')'
            ) %}
        {% endfor %}
        {% do rows.append('(' ~ values | join(', ') ~ ')') %}
    {% endfor %}
    {% set sql = 'insert into ' ~ this.render() ~ ' values ' ~ rows | join(', ') %}
    {% do adapter.add_query(sql, abridge_sql_log=True) %}
    {{ return(sql) }}
{% endmacro %}
